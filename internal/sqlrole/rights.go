package sqlrole

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// views are what a role may see as a whole; memories_to_copy is the program's own.
var views = []string{
	"event_timeline", "dead_letters", "delivery_health", "sync_lag", "sync_health",
	"event_progress", "change_timeline", "record_timeline", "memory_timeline", "account_timeline",
	"failures", "missed_webhooks", "endpoint_attempts", "event_latency", "backlog",
}

// table says of each column whether a role may see it. A test fails for a column that
// stands in neither list: whoever adds one decides.
type table struct {
	name  string
	shown string // columns, with spaces between
	// hidden are what opens a door, or what it is checked against: tokens, their hashes,
	// bodies as they came (Zoho's hold a channel's token), addresses (their path or query
	// may be a key), and what we cannot know to hold none of these.
	hidden string
}

var tables = []table{
	{"events", "id source event_id digest module operation record_id account_id revision user_id modified_fields occurred_at received_at routed_at status failures last_error retry_at processed_at", ""},
	{"event_bodies", "event_id received_at body_id content_type headers record", "body"},
	{"event_runs", "event_id replay_id created_at", ""},
	{"replays", "id filter newest position per_second paced_at matched replayed refused state job_id actor reason created_at finished_at", "idempotency_key"},
	{"rejected_requests", "id at method route status code reason address user_agent content_length request_id", ""},
	{"channels", "channel_id source created_at module events state expires_at due_at failures last_error confirmed_at updated_at", "notify_url"},
	{"channel_tokens", "channel_id until created_at", "token_hash"},
	{"accounts", "account_id wanted done due_at job_id synced_at last_error created_at whole_at whole_since whole_cursor", ""},
	{"records", "module record_id account_id data field_times modified_at life_at life_event_id deleted_at created_at updated_at read_at", ""},
	{"memories", "id user_id account_id module record_id kind content metadata checksum created_at updated_at origin origin_id expires_at language search", ""},
	{"memory_history", "id memory_id user_id account_id module record_id operation before after event_id outbox_id created_at actor merged_into", ""},
	{"memory_embeddings", "memory_id model checksum", "embedding"},
	{"memory_runs", "id kind user_id dry_run state actor request_id job_id phase checkpoint progress failures last_error created_at updated_at ended_at", ""},
	{"memory_marks", "run_id mark memory_id", ""},
	{"relationships", "id user_id source relationship target confidence metadata module record_id created_at memory_id", ""},
	{"told_memories", "origin origin_id told_at event_id state", ""},
	{"mirrors", "backend memory_id user_id remote_id adding_since checksum wanted done due_at job_id failures waits failing_since tried_at status last_error waiting_since synced_at created_at", ""},
	{"digests", "backend wanted done taken due_at job_id changed_at state failures last_error started_at completed_at", ""},
	{"outbox", "id seq event user_id payload created_at relayed_at", ""},
	{"endpoints", "id name events timeout status status_reason wanted done due_at job_id created_at updated_at deleted_at description user_ids filter form ordered batch_size batch_wait rate_limit max_in_flight retry_schedule failing_since failures warned_at resume_at full_until rate_at probing", "url sealed"},
	{"deliveries", "id outbox_id endpoint_id status attempts failures next_attempt_at leased_until last_error created_at finished_at batch_id order_key redelivery_id leased_by", ""},
	{"delivery_attempts", "delivery_id number started_at status_code error_class error dns connect tls first_byte total response_head", ""},
	{"redeliveries", "id endpoint_id kind since until events per_second found opened skipped position state job_id actor reason created_at finished_at", ""},
	{"syncs", "id kind state requested_by since job_id waits_for waits_until failures last_error calls counts_missed started_at updated_at finished_at", ""},
	{"sync_parts", "sync_id module position phase cursor after_id expected read changed gone missed last_error", ""},
	{"sync_errors", "sync_id module record_id error attempts created_at resolved_at", ""},
	{"breakers", "name failures reason opened_at open_until probe_until updated_at", ""},
	{"counters", "process slot name value", ""},
	{"counter_samples", "bin at sums", ""},
	{"processes", "process host workers seen_at started_at", ""},
	{"audit_log", "id at actor action object details request_id", ""},
	{"api_tokens", "id name scopes user_ids created_at expires_at revoked_at last_used_at", "hash"},
	{"idempotency_keys", "actor created_at", "key digest answer"},
	{"zoho_tokens", "", "name client_id accounts_url api_url scopes refresh_token grant_digest access_token access_until leased_by leased_until asked_at blocked_until state last_error created_at updated_at"},
	{"river_job", "id state attempt max_attempts attempted_at created_at finalized_at scheduled_at priority args attempted_by errors kind queue tags", "metadata unique_key unique_states"},
	{"river_leader", "elected_at expires_at leader_id name", ""},
	{"river_queue", "name created_at paused_at updated_at", "metadata"},
	{"river_migration", "line version created_at", ""},
	{"river_notification", "id created_at topic", "payload"},
	{"goose_db_version", "id version_id is_applied tstamp", ""},
}

// functions are what a role that operates may call.
var functions = []string{
	"memrelay_replay(bigint, text, integer)", "memrelay_replay_many(bigint[], text, integer)", "memrelay_discard(text, text)",
}

// limits are what a session of a role begins with. They keep a mistake small and can be
// changed by whoever is in the session; what it may do is a matter of its rights alone.
func limits(w Wish) []string {
	readOnly := "on"
	if w.Operate {
		// The functions write. Nothing else can: the role has no right to.
		readOnly = "off"
	}
	return []string{
		"default_transaction_read_only = " + readOnly,
		"statement_timeout = '30s'",
		"lock_timeout = '5s'",
		"idle_in_transaction_session_timeout = '1min'",
	}
}

// connections are how many sessions a role may have at one time.
const connections = 5

func create(name string) string { return "CREATE ROLE " + quote(name) }

// grant are the statements that bring a role to the wish, whatever it might before. verifier is
// what the database is to know of its password, "" when that stays as it is.
func grant(w Wish, database, verifier string) []string {
	name := quote(w.Name)
	login := "LOGIN"
	if w.NoLogin {
		login = "NOLOGIN"
	}
	alter := fmt.Sprintf("ALTER ROLE %s %s CONNECTION LIMIT %d", name, login, connections)
	if verifier != "" {
		alter += " PASSWORD '" + verifier + "'"
	}
	statements := []string{fmt.Sprintf("COMMENT ON ROLE %s IS '%s'", name, mark), alter}
	for _, limit := range limits(w) {
		statements = append(statements, fmt.Sprintf("ALTER ROLE %s SET %s", name, limit))
	}
	statements = append(statements, revoke(w.Name)...)
	statements = append(statements,
		fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s", quote(database), name),
		fmt.Sprintf("GRANT USAGE ON SCHEMA public TO %s", name),
		fmt.Sprintf("GRANT SELECT ON %s TO %s", inPublic(views), name))
	for _, t := range tables {
		if shown := strings.Fields(t.shown); len(shown) > 0 {
			statements = append(statements, fmt.Sprintf("GRANT SELECT (%s) ON public.%s TO %s", strings.Join(quoted(shown), ", "), quote(t.name), name))
		}
	}
	if w.Operate {
		statements = append(statements, fmt.Sprintf("GRANT EXECUTE ON FUNCTION public.%s TO %s", strings.Join(functions, ", public."), name))
	}
	return statements
}

// revoke takes everything back that grant gives, of columns, too, but the way in.
func revoke(name string) []string {
	all := slices.Clone(views)
	for _, t := range tables {
		all = append(all, t.name)
	}
	return []string{
		fmt.Sprintf("REVOKE ALL ON %s FROM %s", inPublic(all), quote(name)),
		fmt.Sprintf("REVOKE ALL ON FUNCTION public.%s FROM %s", strings.Join(functions, ", public."), quote(name)),
	}
}

func drop(name, database string) []string {
	return append(revoke(name),
		fmt.Sprintf("REVOKE ALL ON SCHEMA public FROM %s", quote(name)),
		fmt.Sprintf("REVOKE ALL ON DATABASE %s FROM %s", quote(database), quote(name)),
		"DROP ROLE "+quote(name))
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func quoted(names []string) []string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = quote(n)
	}
	return all
}

func inPublic(names []string) string { return "public." + strings.Join(quoted(names), ", public.") }
