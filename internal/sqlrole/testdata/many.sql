-- 100,000 events of 30 days, of 10,000 records of 1,000 accounts; three endpoints are told of
-- each. In a hundred deliveries one is dead, and of the newest a few are on their way.

INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule)
SELECT ('01a20200-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'endpoint-' || n, 'https://receiver.example/', '{memory_updated}', '10s', '{1s}' FROM generate_series(1, 3) n;

INSERT INTO accounts (account_id, wanted, done, synced_at) SELECT 'account-' || n, 1, 1, now() FROM generate_series(0, 999) n;

INSERT INTO records (module, record_id, account_id, data, modified_at, read_at)
SELECT 'Contacts', 'record-' || n, 'account-' || n % 1000, jsonb_build_object('Last_Name', 'Doe ' || n, 'Description', repeat('x', 300)), now(), now() FROM generate_series(0, 9999) n;

INSERT INTO events (id, source, event_id, digest, module, operation, record_id, account_id, revision, received_at, routed_at, status, failures, last_error, processed_at)
SELECT 1000 + n, 'zoho', 'many-' || n, sha256(n::text::bytea), 'Contacts', 'update', 'record-' || n % 10000, 'account-' || n % 1000, n, t, t + interval '5 ms',
       CASE WHEN n % 1000 = 0 THEN 'dead' WHEN n > 99900 THEN 'routed' ELSE 'processed' END, CASE WHEN n % 1000 = 0 THEN 3 ELSE 0 END, CASE WHEN n % 1000 = 0 THEN 'no date' ELSE '' END,
       CASE WHEN n <= 99900 THEN t + interval '2 seconds' END
FROM generate_series(1, 100000) n CROSS JOIN LATERAL (SELECT now() - (100000 - n) * interval '25.9 seconds') AS x (t);

INSERT INTO event_bodies (event_id, received_at, body_id, body, record)
SELECT id, received_at, id, convert_to(repeat('x', 400), 'UTF8'), convert_to('{"id":"' || record_id || '"}', 'UTF8') FROM events WHERE id > 1000;

INSERT INTO outbox (id, event, user_id, payload, created_at, relayed_at)
SELECT ('01a20300-0000-7000-8000-' || lpad(id::text, 12, '0'))::uuid, 'memory_updated', 'zoho:' || account_id, convert_to(repeat('x', 400), 'UTF8'), processed_at, processed_at + interval '10 ms'
FROM events WHERE id > 1000 AND status = 'processed';

INSERT INTO memories (id, user_id, account_id, module, record_id, kind, content, checksum)
SELECT ('01a20400-0000-7000-8000-' || lpad(substr(record_id, 8), 12, '0'))::uuid, 'zoho:' || account_id, account_id, module, record_id, 'contact', 'Contact Doe', sha256('c') FROM records WHERE record_id LIKE 'record-%';

INSERT INTO memory_history (memory_id, user_id, account_id, module, record_id, operation, before, after, event_id, outbox_id, actor, created_at)
SELECT ('01a20400-0000-7000-8000-' || lpad(substr(record_id, 8), 12, '0'))::uuid, 'zoho:' || account_id, account_id, module, record_id, 'updated', '{"content": "before"}', '{"content": "after"}', id,
       ('01a20300-0000-7000-8000-' || lpad(id::text, 12, '0'))::uuid, 'zoho', processed_at
FROM events WHERE id > 1000 AND status = 'processed';

INSERT INTO mirrors (backend, memory_id, user_id, wanted, done, status, synced_at) SELECT 'mem0', id, user_id, 1, 1, 'synced', now() FROM memories WHERE record_id LIKE 'record-%';

INSERT INTO deliveries (id, outbox_id, endpoint_id, status, attempts, failures, last_error, created_at, finished_at)
SELECT 1000 + row_number() OVER (ORDER BY o.created_at, p.id), o.id, p.id, s.status, 1, 0, CASE WHEN s.status = 'dead' THEN 'answered 400' ELSE '' END, o.relayed_at,
       CASE WHEN s.status <> 'pending' THEN o.relayed_at + interval '100 ms' END
FROM outbox o CROSS JOIN endpoints p CROSS JOIN LATERAL (
    SELECT CASE WHEN o.created_at > now() - interval '1 hour' THEN 'pending' WHEN abs(hashtext(o.id::text || p.name)) % 100 = 0 THEN 'dead' ELSE 'delivered' END) AS s (status)
WHERE p.name LIKE 'endpoint-%' AND o.user_id LIKE 'zoho:account-%'
ORDER BY o.created_at, p.id;

INSERT INTO delivery_attempts (delivery_id, number, started_at, status_code, total, first_byte)
SELECT id, 1, created_at, CASE WHEN status = 'dead' THEN 400 ELSE 204 END, (id % 200) * interval '1 ms', (id % 150) * interval '1 ms' FROM deliveries WHERE id > 1000 AND status <> 'pending' ORDER BY id;

INSERT INTO audit_log (at, actor, action, object) SELECT now() - n * interval '10 minutes', 'ada', 'event.replay', 'event/' || 1000 + n FROM generate_series(1, 2000) n ORDER BY n DESC;

INSERT INTO river_job (state, args, kind, max_attempts, queue, priority, finalized_at)
SELECT 'completed', '{}', 'process_event', 3, 'process', 1, now() FROM generate_series(1, 20000);
