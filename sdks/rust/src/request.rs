//! One HTTP request with its retries.

use crate::credentials::asks_for_renewal;
use crate::{Client, Error, Result};
use reqwest::header::RETRY_AFTER;
use reqwest::{Method, Request, Response, Url};
use serde::de::DeserializeOwned;

/// What a failed attempt allows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Trying again: the request has the same effect however often it arrives.
    Transient,
    /// Nothing: a second arrival would be a second effect.
    Never,
}

impl Client {
    pub(crate) async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T> {
        self.call(&Request::new(Method::GET, url), Retry::Transient).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        json: Vec<u8>,
        retry: Retry,
    ) -> Result<T> {
        let mut request = Request::new(Method::POST, self.url(path));
        request
            .headers_mut()
            .insert("content-type", reqwest::header::HeaderValue::from_static("application/json"));
        *request.body_mut() = Some(json.into());
        self.call(&request, retry).await
    }

    async fn call<T: DeserializeOwned>(&self, request: &Request, retry: Retry) -> Result<T> {
        let mut backoff = self.shared.backoff;
        let mut left = if retry == Retry::Transient { self.shared.retries } else { 0 };
        let mut renewed = false;
        loop {
            let bearer = self.shared.credentials.bearer().await?;
            let error = match self.attempt(request, bearer.as_deref()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // Refused before it had any effect, so this repetition is always safe.
            if asks_for_renewal(error.code())
                && !std::mem::replace(&mut renewed, true)
                && self.shared.credentials.renew(bearer.as_deref()).await
            {
                continue;
            }
            if !error.is_retryable() || left == 0 {
                return Err(error);
            }
            left -= 1;
            let wait = backoff.next_after(error.retry_after());
            tracing::debug!(code = error.code(), ?wait, "request failed, trying again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt<T: DeserializeOwned>(&self, request: &Request, bearer: Option<&str>) -> Result<T> {
        let mut request =
            request.try_clone().ok_or_else(|| Error::invalid("the request body cannot be repeated"))?;
        authorize(&mut request, bearer)?;
        *request.timeout_mut() = Some(self.shared.request_timeout);
        let answer = success(self.shared.http.execute(request).await?).await?;
        let body = answer.bytes().await?;
        serde_json::from_slice(&body)
            .map_err(|e| Error::protocol(format!("the answer is not of the documented form: {e}")))
    }
}

/// Puts the credentials in.
pub(crate) fn authorize(request: &mut Request, bearer: Option<&str>) -> Result<()> {
    if let Some(bearer) = bearer {
        request.headers_mut().insert(reqwest::header::AUTHORIZATION, bearer_header(bearer)?);
    }
    Ok(())
}

pub(crate) fn bearer_header(bearer: &str) -> Result<reqwest::header::HeaderValue> {
    let mut value = reqwest::header::HeaderValue::try_from(format!("Bearer {bearer}"))
        .map_err(|_| Error::invalid("the API key or token has characters that cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The answer if it is a success, else its error.
pub(crate) async fn success(answer: Response) -> Result<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let body = answer.bytes().await.unwrap_or_default();
    Err(Error::from_answer(status.as_u16(), &body, retry_after.as_deref()))
}
