"""Stripe's official library against the fake Stripe of tests/fixtures: python3 stripe_oracle.py PART URL KEY SECRET < JSON

PART `behaviour`: what the library expects of Stripe holds for the fake.
PART `calls`: makes the calls that Weir's client makes, for their requests to be compared.
PART `webhooks`: verifies the webhooks on standard input.
"""

import json
import sys
import time

import stripe

part, url, key, secret = sys.argv[1:5]
given = json.load(sys.stdin)
client = stripe.StripeClient(key, base_addresses={"api": url}, max_network_retries=0)
v1 = client.v1


def refused(kind, call, **expected):
    try:
        call()
    except kind as error:
        for name, value in expected.items():
            assert getattr(error, name) == value, (name, getattr(error, name), value)
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def behaviour():
    other = stripe.StripeClient("sk_test_wrong", base_addresses={"api": url}, max_network_retries=0)
    refused(stripe.AuthenticationError, lambda: other.v1.customers.create(), http_status=401)
    old = {"stripe_version": "2020-08-27"}
    refused(stripe.InvalidRequestError, lambda: v1.customers.create(options=old), http_status=400)
    refused(stripe.InvalidRequestError, lambda: v1.customers.create({"colour": "red"}), param="colour", code="parameter_unknown")
    refused(stripe.InvalidRequestError, lambda: v1.products.create({}), param="name", code="parameter_missing")
    refused(stripe.InvalidRequestError, lambda: v1.prices.retrieve("price_none"), http_status=404, code="resource_missing")

    once = {"idempotency_key": "the-first"}
    customer = v1.customers.create({"name": "Ann", "metadata": {"tenant_id": "ten_1"}}, once)
    again = v1.customers.create({"name": "Ann", "metadata": {"tenant_id": "ten_1"}}, once)
    assert (customer.id, customer.metadata["tenant_id"]) == (again.id, "ten_1")
    refused(stripe.IdempotencyError, lambda: v1.customers.create({"name": "Bob"}, once), http_status=400)

    product = v1.products.create({"name": "Events"})
    meter = v1.billing.meters.create(
        {"display_name": "Events", "event_name": "oracle_events", "default_aggregation": {"formula": "sum"}}
    )
    price = v1.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "unit_amount_decimal": "0.5",
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
        }
    )
    assert v1.prices.retrieve(price.id).recurring.meter == meter.id
    subscription = v1.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    item = subscription["items"].data[0]
    assert subscription.status == "active" and item.current_period_start < item.current_period_end

    now = int(time.time())
    minute = now // 60 * 60

    def event(identifier, value="7", timestamp=now, customer=customer.id):
        payload = {"stripe_customer_id": customer, "value": value}
        wish = {"event_name": "oracle_events", "identifier": identifier, "payload": payload, "timestamp": timestamp}
        return v1.billing.meter_events.create(wish)

    assert event("one").identifier == "one"
    known = refused(stripe.InvalidRequestError, lambda: event("one"), http_status=400)
    assert "An event already exists with identifier one" in str(known)
    assert event("two", "-3").payload["value"] == "-3"
    day = 24 * 3600
    event("old", "1", now - 35 * day + 60)
    refused(stripe.InvalidRequestError, lambda: event("older", "1", now - 35 * day - 60), code="timestamp_too_far_in_past")
    refused(stripe.InvalidRequestError, lambda: event("ahead", "1", now + 360), code="timestamp_in_future")
    refused(stripe.InvalidRequestError, lambda: event("half", "0.5"), code="meter_event_invalid_value")
    refused(stripe.InvalidRequestError, lambda: event("much", "9" * 16), code="meter_event_value_too_many_digits")
    event("nobody", customer="cus_none")  # found out later

    def summaries(start, end, **more):
        wish = {"customer": customer.id, "start_time": start, "end_time": end, **more}
        return v1.billing.meters.event_summaries.list(meter.id, wish)

    assert [page.aggregated_value for page in summaries(minute - 60, minute + 120).data] == [4.0]
    refused(stripe.InvalidRequestError, lambda: summaries(minute + 1, minute + 61))

    checkout = v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer.id,
            "line_items": [{"price": price.id}],
            "success_url": "https://example.com/done",
        }
    )
    assert checkout.url.startswith("https://checkout.stripe.com/")
    portal = v1.billing_portal.sessions.create({"customer": customer.id, "return_url": "https://example.com/"})
    assert portal.url.startswith("https://billing.stripe.com/")
    listed = v1.subscriptions.list({"customer": customer.id, "status": "all"})
    assert [one.id for one in listed.data] == [subscription.id]
    assert v1.invoices.list({"customer": customer.id, "limit": 5}).data == []
    print(json.dumps({"meter": meter.id}))


def calls():
    customer = v1.customers.create({"name": "acme", "metadata": {"tenant_id": "ten_1"}}, {"idempotency_key": "a"})
    assert customer.id
    v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": given["customer"],
            "client_reference_id": "ten_1",
            "line_items": [{"price": given["price"]}],
            "success_url": "https://weir.test/?paid=1&x=a b",
            "cancel_url": "https://weir.test/",
            "subscription_data": {"metadata": {"tenant_id": "ten_1"}},
        },
        {"idempotency_key": "b"},
    )
    v1.billing_portal.sessions.create(
        {"customer": given["customer"], "return_url": "https://weir.test/"}, {"idempotency_key": "c"}
    )
    v1.prices.retrieve(given["price"])
    v1.billing.meters.retrieve(given["meter"])
    v1.subscriptions.list({"customer": given["customer"], "status": "all", "limit": 100})
    v1.invoices.list({"customer": given["customer"], "limit": 5, "status": "open"})
    v1.billing.meter_events.create(
        {
            "event_name": "weir_events_published",
            "identifier": given["identifier"],
            "payload": {"stripe_customer_id": given["customer"], "value": "42"},
            "timestamp": given["timestamp"],
        }
    )
    start = given["timestamp"] // 3600 * 3600
    v1.billing.meters.event_summaries.list(
        given["meter"],
        {"customer": given["customer"], "start_time": start, "end_time": start + 3600, "limit": 100},
    )
    client.v2.core.events.retrieve(given["report"])


def webhooks():
    for one in given:
        thin = json.loads(one["body"])["object"] == "v2.core.event"
        read = client.parse_event_notification if thin else stripe.Webhook.construct_event
        assert read(one["body"], one["signature"], secret).type == one["kind"]
        refused(
            stripe.SignatureVerificationError,
            lambda: read(one["body"].replace("evt_", "evt_x"), one["signature"], secret),
        )
        refused(stripe.SignatureVerificationError, lambda: read(one["body"], one["signature"], "whsec_other"))
    print(json.dumps({"verified": len(given)}))


{"behaviour": behaviour, "calls": calls, "webhooks": webhooks}[part]()
