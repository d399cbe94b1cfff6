-- A small story that the queries of docs/sql.md are asked about: the ids are those of the page.
-- A contact is created, changed, changed again by an event that dies. Three endpoints are
-- told: crm has it all, archive refuses, partner is paused.

INSERT INTO endpoints (id, name, url, events, timeout, status, status_reason, retry_schedule, batch_size, sealed, failing_since, failures) VALUES
    ('01a20100-0000-7000-8000-000000000001', 'crm', 'https://crm.example/hook?key=the-key-in-the-url', '{memory_added,memory_updated}', '10s', 'active', '', '{1s,2s}', 10, 'the-sealed-secret', NULL, 0),
    ('01a20100-0000-7000-8000-000000000002', 'archive', 'https://archive.example/', '{memory_added,memory_updated}', '10s', 'active', '', '{1s,2s}', 1, NULL, now() - interval '110 minutes', 3),
    ('01a20100-0000-7000-8000-000000000003', 'partner', 'https://partner.example/', '{memory_added,memory_updated}', '10s', 'paused', 'maintenance', '{1s,2s}', 1, NULL, NULL, 0);

INSERT INTO accounts (account_id, wanted, done, synced_at, whole_at, due_at, last_error) VALUES
    ('5725767000000499001', 2, 2, now() - interval '60 minutes', now() - interval '1 day', NULL, ''),
    ('5725767000000499002', 1, 0, NULL, NULL, now() + interval '1 minute', 'read Deals: Zoho answered 503');

INSERT INTO events (id, source, event_id, digest, module, operation, record_id, account_id, revision, received_at, routed_at, status, failures, last_error, retry_at, processed_at) VALUES
    (1, 'zoho', 'evt-1', sha256('1'), 'Contacts', 'create', '5725767000000524200', '5725767000000499001', 1, now() - interval '120 minutes', now() - interval '119 minutes 59 seconds', 'processed', 0, '', NULL, now() - interval '119 minutes 58 seconds'),
    (2, 'zoho', 'evt-2', sha256('2'), 'Contacts', 'update', '5725767000000524200', '5725767000000499001', 2, now() - interval '90 minutes', now() - interval '60 minutes 1 second', 'processed', 0, '', NULL, now() - interval '60 minutes'),
    (3, 'zoho', 'evt-3', sha256('3'), 'Vendors', 'update', '5725767000000524300', NULL, NULL, now() - interval '80 minutes', NULL, 'ignored', 0, '', NULL, now() - interval '80 minutes'),
    (4, 'zoho', 'evt-1#34', sha256('4'), 'Contacts', 'update', '5725767000000524201', '5725767000000499001', 3, now() - interval '70 minutes', now() - interval '70 minutes', 'processed', 0, '', NULL, now() - interval '70 minutes'),
    (5, 'zoho', 'evt-5', sha256('5'), 'Deals', 'update', '5725767000000524400', '5725767000000499002', 1, now() - interval '20 minutes', now() - interval '19 minutes', 'retrying', 1, 'the amount is no number', now() + interval '1 minute', NULL),
    (6, 'zoho', 'evt-6', sha256('6'), 'Contacts', 'update', '5725767000000524202', NULL, NULL, now() - interval '2 minutes', NULL, 'received', 0, '', NULL, NULL),
    (7, 'zoho', 'evt-7', sha256('7'), 'Contacts', 'update', '5725767000000524200', '5725767000000499001', 4, now() - interval '30 minutes', now() - interval '29 minutes', 'dead', 3, 'the birthday is no date', NULL, now() - interval '25 minutes'),
    (8, 'zoho', 'evt-8', sha256('8'), 'Contacts', 'update', '5725767000000524203', NULL, NULL, now() - interval '40 minutes', NULL, 'dead', 3, 'the birthday is no date', NULL, now() - interval '35 minutes');
SELECT setval('events_id_seq', 100);
-- Event 8 has no body any more.
INSERT INTO event_bodies (event_id, received_at, body_id, content_type, headers, body, record)
SELECT id, received_at, id, 'application/json', '{}', '{"token":"the-token-in-a-body"}', convert_to(format('{"id":"%s","Last_Name":"Doe"}', record_id), 'UTF8') FROM events WHERE id <> 8;
INSERT INTO event_runs (event_id, replay_id, created_at) VALUES (2, '01a20155-0000-7000-8000-000000000001', now() - interval '61 minutes');

INSERT INTO records (module, record_id, account_id, data, field_times, modified_at, read_at) VALUES
    ('Contacts', '5725767000000524200', '5725767000000499001', '{"Last_Name": "Doe", "Email": "jane@example.com"}',
     jsonb_build_object('Last_Name', (extract(epoch FROM now() - interval '1 day') * 1000000)::bigint, 'Email', (extract(epoch FROM now() - interval '90 minutes') * 1000000)::bigint),
     now() - interval '90 minutes', now() - interval '60 minutes 500 milliseconds');

INSERT INTO outbox (id, event, user_id, payload, created_at, relayed_at) VALUES
    ('01a201a3-0000-7000-8000-000000000001', 'memory_added', 'zoho:5725767000000499001', '{"event":"memory_added"}', now() - interval '119 minutes 58 seconds', now() - interval '119 minutes 57 seconds'),
    ('01a201a3-0000-7000-8000-000000000002', 'memory_updated', 'zoho:5725767000000499001', '{"event":"memory_updated"}', now() - interval '60 minutes', now() - interval '59 minutes 59 seconds'),
    ('01a201a3-0000-7000-8000-000000000003', 'memory_added', 'zoho:5725767000000499001', '{"event":"memory_added"}', now() - interval '5 minutes', NULL);

INSERT INTO memories (id, user_id, account_id, module, record_id, kind, content, checksum, created_at) VALUES
    ('01a201a3-85e8-7166-bd98-bdae5e578952', 'zoho:5725767000000499001', '5725767000000499001', 'Contacts', '5725767000000524200', 'contact', 'Contact Jane Doe', sha256('a'), now() - interval '119 minutes 58 seconds'),
    ('01a201a3-85e8-7166-bd98-bdae5e578953', 'zoho:5725767000000499001', '5725767000000499001', NULL, NULL, 'fact', 'Jane is on holiday', sha256('b'), now() - interval '5 minutes');
INSERT INTO memory_history (memory_id, user_id, account_id, module, record_id, operation, before, after, event_id, outbox_id, actor, created_at) VALUES
    ('01a201a3-85e8-7166-bd98-bdae5e578952', 'zoho:5725767000000499001', '5725767000000499001', 'Contacts', '5725767000000524200', 'added', NULL, '{"content": "Contact Doe"}', 1, '01a201a3-0000-7000-8000-000000000001', 'zoho', now() - interval '119 minutes 58 seconds'),
    ('01a201a3-85e8-7166-bd98-bdae5e578952', 'zoho:5725767000000499001', '5725767000000499001', 'Contacts', '5725767000000524200', 'updated', '{"content": "Contact Doe"}', '{"content": "Contact Jane Doe"}', 2, '01a201a3-0000-7000-8000-000000000002', 'zoho', now() - interval '60 minutes'),
    ('01a201a3-85e8-7166-bd98-bdae5e578953', 'zoho:5725767000000499001', '5725767000000499001', NULL, NULL, 'added', NULL, '{"content": "Jane is on holiday"}', NULL, '01a201a3-0000-7000-8000-000000000003', 'token/bot', now() - interval '5 minutes');
INSERT INTO mirrors (backend, memory_id, user_id, wanted, done, status, failures, last_error, waiting_since, tried_at) VALUES
    ('mem0', '01a201a3-85e8-7166-bd98-bdae5e578952', 'zoho:5725767000000499001', 2, 1, 'retrying', 1, 'answered 422', now() - interval '50 minutes', now() - interval '40 minutes');

-- crm has the first at once and the second in a batch; archive refuses both; partner is paused.
INSERT INTO deliveries (id, outbox_id, endpoint_id, status, attempts, failures, last_error, batch_id, created_at, finished_at, next_attempt_at) VALUES
    (11, '01a201a3-0000-7000-8000-000000000001', '01a20100-0000-7000-8000-000000000001', 'delivered', 2, 1, '', NULL, now() - interval '119 minutes 57 seconds', now() - interval '119 minutes 50 seconds', now()),
    (12, '01a201a3-0000-7000-8000-000000000001', '01a20100-0000-7000-8000-000000000002', 'dead', 1, 1, 'answered 403 Forbidden', NULL, now() - interval '119 minutes 57 seconds', now() - interval '119 minutes 55 seconds', now()),
    (13, '01a201a3-0000-7000-8000-000000000001', '01a20100-0000-7000-8000-000000000003', 'pending', 0, 0, '', NULL, now() - interval '119 minutes 57 seconds', NULL, now()),
    (14, '01a201a3-0000-7000-8000-000000000002', '01a20100-0000-7000-8000-000000000001', 'delivered', 0, 0, '', '01a201a3-0000-7000-8000-0000000000ba', now() - interval '59 minutes 59 seconds', now() - interval '59 minutes 50 seconds', now()),
    (15, NULL, '01a20100-0000-7000-8000-000000000001', 'delivered', 1, 0, '', '01a201a3-0000-7000-8000-0000000000ba', now() - interval '59 minutes 55 seconds', now() - interval '59 minutes 50 seconds', now()),
    (16, '01a201a3-0000-7000-8000-000000000002', '01a20100-0000-7000-8000-000000000002', 'retrying', 1, 1, 'answered 502 Bad Gateway', NULL, now() - interval '59 minutes 59 seconds', NULL, now() + interval '1 minute'),
    (17, '01a201a3-0000-7000-8000-000000000002', '01a20100-0000-7000-8000-000000000003', 'pending', 0, 0, '', NULL, now() - interval '59 minutes 59 seconds', NULL, now());
SELECT setval('deliveries_id_seq', 100);
INSERT INTO delivery_attempts (delivery_id, number, started_at, status_code, error_class, error, connect, first_byte, total) VALUES
    (11, 1, now() - interval '119 minutes 56 seconds', 503, '', 'answered 503 Service Unavailable', '3 ms', '20 ms', '21 ms'),
    (11, 2, now() - interval '119 minutes 51 seconds', 204, '', '', '0', '90 ms', '91 ms'),
    (12, 1, now() - interval '119 minutes 56 seconds', 403, '', 'answered 403 Forbidden', '3 ms', '700 ms', '701 ms'),
    (15, 1, now() - interval '59 minutes 51 seconds', 204, '', '', '0', '40 ms', '41 ms'),
    (16, 1, now() - interval '59 minutes 51 seconds', NULL, 'timeout', 'no answer in 10s', '3 ms', '0', '10 s');

INSERT INTO syncs (id, kind, state, requested_by, failures, last_error, started_at, updated_at, finished_at) VALUES
    ('01a20111-0000-7000-8000-000000000001', 'full', 'failed', 'schedule', 3, 'read Deals: Zoho answered 500', now() - interval '5 hours', now() - interval '4 hours', now() - interval '4 hours');
INSERT INTO sync_errors (sync_id, module, record_id, error, created_at) VALUES
    ('01a20111-0000-7000-8000-000000000001', 'Deals', '5725767000000524400', 'Zoho answered 500', now() - interval '4 hours');
INSERT INTO channels (channel_id, module, state, failures, last_error, notify_url, updated_at) VALUES
    ('1000001', 'Deals', 'lost', 2, 'Zoho knows no such channel', 'https://in.example/?key=the-key-of-the-door', now() - interval '3 hours');
INSERT INTO channel_tokens (channel_id, token_hash) VALUES ('1000001', sha256('the-token-of-the-channel'));
INSERT INTO api_tokens (id, name, hash, scopes) VALUES ('01a20111-0000-7000-8000-0000000000aa', 'bot', sha256('the-token-of-the-bot'), '{memory}');
INSERT INTO zoho_tokens (name, client_id, accounts_url, grant_digest, refresh_token, access_token, state, last_error, updated_at) VALUES
    ('zoho', 'the-client', 'https://accounts.example', sha256('g'), 'the-refresh-token', 'the-access-token', 'revoked', 'invalid_code', now() - interval '2 hours');
INSERT INTO breakers (name, failures, reason, opened_at, open_until) VALUES ('zoho', 5, 'answered 503', now() - interval '1 hour', now() + interval '1 minute');
INSERT INTO memory_runs (id, kind, user_id, state, actor, failures, last_error, ended_at) VALUES
    ('01a20111-0000-7000-8000-000000000002', 'optimize', 'zoho:5725767000000499001', 'failed', 'token/bot', 5, 'out of memory', now() - interval '6 hours');
INSERT INTO river_job (state, args, kind, max_attempts, attempt, queue, priority, errors, finalized_at) VALUES
    ('discarded', '{"event_id": 8}', 'process_event', 3, 3, 'process', 1, ARRAY['{"error": "the birthday is no date"}'::jsonb], now() - interval '35 minutes'),
    ('available', '{"event_id": 6}', 'process_event', 3, 0, 'process', 1, NULL, NULL);

INSERT INTO counters (process, slot, name, value) VALUES
    ('00000000-0000-0000-0000-000000000000', 0, 'duplicated', 5), ('00000000-0000-0000-0000-000000000000', 0, 'id_reused', 1),
    ('00000000-0000-0000-0000-000000000000', 0, 'queued', 7), ('00000000-0000-0000-0000-000000000000', 0, 'ignored', 1),
    ('00000000-0000-0000-0000-000000000000', 0, 'dead', 2), ('00000000-0000-0000-0000-000000000000', 0, 'backlog', 1);
INSERT INTO processes (process, host, workers) VALUES (gen_random_uuid(), 'node-1', 24);
INSERT INTO audit_log (at, actor, action, object, details, request_id) VALUES
    (now() - interval '61 minutes', 'ada', 'event.replay', 'event/2', '{"replay_id": "01a20155-0000-7000-8000-000000000001", "reason": "the mapping was wrong"}', ''),
    (now() - interval '3 hours', 'token/operator', 'endpoint.pause', 'endpoint/01a20100-0000-7000-8000-000000000003', '{"reason": "maintenance"}', 'req-1');
