//! The cost of an operation, once the validator has added it up.

use super::answer;
use super::limits::exceeded;
use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextValidation};
use async_graphql::{ServerError, ValidationResult, async_trait};
use std::sync::Arc;

/// Refuses operations that cost more than this; says what they cost.
pub(super) struct CostLimit(pub usize);

impl ExtensionFactory for CostLimit {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self(self.0))
    }
}

#[async_trait::async_trait]
impl Extension for CostLimit {
    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        let result = next.run(ctx).await?;
        if result.complexity > self.0 {
            return Err(vec![answer::server_error(&exceeded("cost", result.complexity, self.0))]);
        }
        Ok(result)
    }
}
