-- Which terms a tenant had since when: a period that is over keeps its price, whatever was bought later.

CREATE TABLE billing_terms (
    tenant_id    BLOB NOT NULL REFERENCES tenants (id),
    since        INTEGER NOT NULL,
    plan         TEXT NOT NULL,
    plan_version INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, since)
) STRICT;

-- What was changed before is not known: the terms of now count as those from the beginning.
INSERT INTO billing_terms (tenant_id, since, plan, plan_version)
    SELECT t.id, t.created_at, t.plan, a.plan_version FROM billing_accounts a JOIN tenants t ON t.id = a.tenant_id;
