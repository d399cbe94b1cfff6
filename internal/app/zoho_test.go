package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/reconcile"
	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

// connected is a program with a Zoho of its own, which notifies it.
type connected struct {
	*program
	zoho   *zohotest.Server
	behind *atomic.Int64 // how far Zoho's clock is behind ours
	syncs  *reconcile.Reconciler
}

// outsideURL is what the program tells Zoho.
const outsideURL = "https://relay.example.com"

// connect starts a Zoho with so many accounts and four records of each, and a
// program on it. Zoho's clock is five minutes behind: what changes there is no
// change of the last minute, which reconciliation would leave to its webhook.
func connect(t *testing.T, accounts int) *connected {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &connected{behind: &atomic.Int64{}}
	c.behind.Store(int64(5 * time.Minute))
	o := zohotest.Options{
		Now:    func() time.Time { return time.Now().Add(-time.Duration(c.behind.Load())) },
		Notify: zohotest.To(func() string { return ln.Addr().String() }),
	}
	c.zoho = zohotest.New(o)
	if err := c.zoho.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.zoho.Close() })
	c.zoho.Seed(accounts, 4, 1)
	var syncs config.Config
	c.program = start(t, setup{ln: ln, change: func(cfg *config.Config) {
		cfg.Zoho = config.Zoho{
			DataCenter: "us", Edition: "production", ClientID: zohotest.ClientID, ClientSecret: zohotest.ClientSecret,
			RefreshToken: zohotest.RefreshToken, APIURL: c.zoho.URL(), AccountsURL: c.zoho.URL(),
		}
		cfg.Sync = config.Sync{IncrementalEvery: time.Hour, FullAt: "02:00", Timezone: "UTC"}
		cfg.Inbound.BaseURL = outsideURL
		cfg.Inbound.Debounce = 0
		syncs = *cfg
	}})
	c.syncs, err = app.NewReconciler(syncs, c.pool, c.app.Jobs(), nil, nil, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// synced waits until the newest sync of a kind has completed and all it found is in memory.
func (c *connected) synced(t *testing.T, kind string) {
	t.Helper()
	c.waitFor(t, kind+" sync", `SELECT coalesce((SELECT state IN ('completed', 'failed') FROM syncs WHERE kind = $1 ORDER BY started_at DESC LIMIT 1), false)`, kind)
	if state := rows[string](t, c.pool, `SELECT state || last_error FROM syncs WHERE kind = $1 ORDER BY started_at DESC LIMIT 1`, kind)[0]; state != "completed" {
		t.Fatalf("the %s sync is %s", kind, state)
	}
	c.settled(t)
}

// sync runs a sync of a kind.
func (c *connected) sync(t *testing.T, kind string) uuid.UUID {
	t.Helper()
	id, already, err := c.syncs.Start(t.Context(), kind, reconcile.Actor{Name: "test"})
	if err != nil || already {
		t.Fatalf("start a sync: %v, already %v", err, already)
	}
	c.synced(t, kind)
	return id
}

// notified waits until Zoho has sent all its notifications and they are worked.
func (c *connected) notified(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.zoho.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	c.settled(t)
}

// same checks that we know of Zoho's living records all, and as they are now.
func (c *connected) same(t *testing.T) {
	t.Helper()
	for _, module := range []string{"Accounts", "Contacts", "Deals", "Tasks", "Notes", "Events", "Calls"} {
		known := map[string]string{}
		for _, row := range rows[string](t, c.pool, `SELECT r.record_id || ' ' || (r.data->>'Modified_Time') FROM records r
			JOIN memories m ON m.module = r.module AND m.record_id = r.record_id AND m.account_id = r.account_id
			WHERE r.module = $1 AND r.deleted_at IS NULL`, module) {
			id, modified, _ := strings.Cut(row, " ")
			known[id] = modified
		}
		ids := c.zoho.IDs(module)
		if len(known) != len(ids) {
			t.Errorf("%s: %d are remembered, Zoho has %d", module, len(known), len(ids))
		}
		for _, id := range ids {
			if record, ok := c.zoho.Get(module, id); ok && known[id] != record["Modified_Time"] {
				t.Errorf("%s %s is remembered as of %q, Zoho has it as of %v", module, id, known[id], record["Modified_Time"])
			}
		}
	}
}

// TestWebhooksAndSyncsTogetherMissNothing is a company that connects its Zoho:
// everything is read once, then webhooks tell of most changes, and the sync finds
// the others.
func TestWebhooksAndSyncsTogetherMissNothing(t *testing.T) {
	t.Parallel()
	const accounts, changes = 300, 100
	c := connect(t, accounts)
	c.synced(t, reconcile.Full)
	c.same(t)
	full := c.zoho.Calls()
	t.Logf("full sync of %d accounts and %d other records: %d API calls, and %d would be one per account", accounts, 4*accounts, full, accounts)
	if full > accounts/4 {
		t.Errorf("a full sync took %d calls for %d accounts", full, accounts)
	}
	c.waitFor(t, "a channel for each module that has one", `SELECT count(*) = 6 FROM channels WHERE state = 'active'`)

	contacts := c.zoho.IDs("Contacts")
	for i := range changes {
		change := c.zoho.Records
		if i%10 == 0 {
			change = c.zoho.Silently()
		}
		change.Update("Contacts", contacts[i], map[string]any{"Title": fmt.Sprintf("Changed %d", i)})
	}
	c.notified(t)
	if n := rows[int](t, c.pool, `SELECT count(*)::int FROM memories WHERE content LIKE '%Title: Changed%'`)[0]; n != changes*9/10 {
		t.Errorf("%d changes are in memory after the webhooks, want %d", n, changes*9/10)
	}
	id := c.sync(t, reconcile.Incremental)
	if n := rows[int](t, c.pool, `SELECT count(*)::int FROM memories WHERE content LIKE '%Title: Changed%'`)[0]; n != changes {
		t.Errorf("%d changes are in memory after the sync, want %d", n, changes)
	}
	if missed := rows[int](t, c.pool, `SELECT sum(missed)::int FROM sync_parts WHERE sync_id = $1`, id)[0]; missed != changes/10 {
		t.Errorf("missed %d, want %d", missed, changes/10)
	}
	c.same(t)

	// A night's full sync of what is known changes nothing and tells nobody.
	before := rows[int](t, c.pool, `SELECT count(*)::int FROM memory_history`)[0]
	c.sync(t, reconcile.Full)
	if after := rows[int](t, c.pool, `SELECT count(*)::int FROM memory_history`)[0]; after != before {
		t.Errorf("a sync of what is known made %d changes", after-before)
	}
}

// Without a word from Zoho, records go, move and come.
func TestAFullSyncFindsWhatIsGone(t *testing.T) {
	t.Parallel()
	c := connect(t, 30)
	c.synced(t, reconcile.Full)
	quiet := c.zoho.Silently()
	contacts, deals, accounts := c.zoho.IDs("Contacts"), c.zoho.IDs("Deals"), c.zoho.IDs("Accounts")
	quiet.Delete("Contacts", contacts[0])
	quiet.Delete("Contacts", contacts[len(contacts)-1])
	quiet.Delete("Deals", deals[3])
	quiet.Purge("Deals", deals[3])
	quiet.Delete("Accounts", accounts[7])
	quiet.Create("Contacts", map[string]any{"Last_Name": "New", "Account_Name": accounts[1]})
	c.sync(t, reconcile.Full)
	c.same(t)
	if n := rows[int](t, c.pool, `SELECT count(*)::int FROM memories WHERE content LIKE 'Contact New of %'`)[0]; n != 1 {
		t.Errorf("the new contact is remembered %d times", n)
	}
}

// A contact moves to another account: both overviews and the graph follow.
func TestAContactThatMovesIsOfOneAccount(t *testing.T) {
	t.Parallel()
	c := connect(t, 5)
	c.synced(t, reconcile.Full)
	c.waitFor(t, "a channel for contacts", `SELECT EXISTS (SELECT FROM channels WHERE module = 'Contacts' AND state = 'active')`)
	accounts := c.zoho.IDs("Accounts")
	from, to := accounts[0], accounts[1]
	contact := c.zoho.Create("Contacts", map[string]any{"Last_Name": "Mover", "Account_Name": from})
	c.notified(t)
	before := counts(t, c, from, to)
	c.zoho.Move("Contacts", contact, to)
	c.notified(t)
	after := counts(t, c, from, to)
	if after[0] != before[0]-1 || after[1] != before[1]+1 {
		t.Errorf("contacts by the accounts' overviews: %v, then %v", before, after)
	}
	if got := rows[string](t, c.pool, `SELECT user_id FROM memories WHERE record_id = $1`, contact); len(got) != 1 || got[0] != "zoho:"+to {
		t.Errorf("the contact is remembered for %v, want zoho:%s", got, to)
	}
	if got := rows[string](t, c.pool, `SELECT source FROM relationships WHERE record_id = $1 AND relationship = 'HAS_CONTACT'`, contact); len(got) != 1 || got[0] != "Accounts:"+to {
		t.Errorf("the contact is had by %v, want Accounts:%s", got, to)
	}
	c.same(t)
}

// counts are the accounts' contacts, as their overviews say.
func counts(t *testing.T, c *connected, accounts ...string) []int {
	t.Helper()
	var all []int
	for _, id := range accounts {
		all = append(all, rows[int](t, c.pool, `SELECT coalesce(substring(content FROM 'Contacts: (\d+)'), '0')::int FROM memories WHERE module = 'Accounts' AND record_id = $1`, id)...)
	}
	return all
}

// An account that nobody knew is read whole when it is first heard of.
func TestAnAccountIsReadWholeAtFirstSight(t *testing.T) {
	t.Parallel()
	c := connect(t, 3)
	c.synced(t, reconcile.Full)
	c.waitFor(t, "a channel for contacts", `SELECT EXISTS (SELECT FROM channels WHERE module = 'Contacts' AND state = 'active')`)
	quiet := c.zoho.Silently()
	account := quiet.Create("Accounts", map[string]any{"Account_Name": "Quiet Ltd."})
	for i := range 450 {
		quiet.Create("Contacts", map[string]any{"Last_Name": fmt.Sprintf("Person %d", i), "Account_Name": account})
	}
	quiet.Create("Deals", map[string]any{"Deal_Name": "Rails", "Stage": "Qualification", "Amount": 1200, "Account_Name": account})
	// Only this is told.
	c.zoho.Create("Contacts", map[string]any{"Last_Name": "Herald", "Account_Name": account})
	c.notified(t)
	c.waitFor(t, "the account is read whole", `SELECT EXISTS (SELECT FROM accounts WHERE account_id = $1 AND whole_at IS NOT NULL)`, account)
	c.settled(t)
	c.same(t)
	want := "Account Quiet Ltd.\n"
	got := rows[string](t, c.pool, `SELECT content FROM memories WHERE module = 'Accounts' AND record_id = $1`, account)[0]
	if !strings.HasPrefix(got, want) || !strings.Contains(got, "\nContacts: 451\nDeals: 1, 1 of them open, worth 1200") {
		t.Errorf("the overview reads:\n%s", got)
	}
}

// Zoho is away: webhooks are taken and routed, nothing fails, and health says so.
// When it is back everything is worked.
func TestAnOutageOfZohoOnlyDelays(t *testing.T) {
	t.Parallel()
	c := connect(t, 5)
	c.synced(t, reconcile.Full)
	c.waitFor(t, "a channel for contacts", `SELECT EXISTS (SELECT FROM channels WHERE module = 'Contacts' AND state = 'active')`)
	c.zoho.Outage(true)
	for _, id := range c.zoho.IDs("Contacts") {
		c.zoho.Update("Contacts", id, map[string]any{"Title": "Away"})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.zoho.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	c.waitFor(t, "everything is routed", `SELECT NOT EXISTS (SELECT FROM events WHERE status = 'received')`)
	c.waitFor(t, "the breaker is open", `SELECT EXISTS (SELECT FROM breakers WHERE open_until IS NOT NULL)`)
	if health := c.get(t, "/webhooks/health"); health.status != http.StatusOK || health.body["status"] != "degraded" {
		t.Errorf("health: %d %v", health.status, health.body)
	}
	if n := rows[int](t, c.pool, `SELECT count(*)::int FROM events WHERE failures > 0 OR status IN ('retrying', 'dead')`)[0]; n != 0 {
		t.Errorf("%d events failed for Zoho's outage", n)
	}
	c.zoho.Outage(false)
	c.settled(t)
	c.same(t)
	if health := c.get(t, "/webhooks/health"); health.body["status"] != "healthy" {
		t.Errorf("health afterwards: %v", health.body)
	}
}

// A channel that Zoho has forgotten is found and made anew.
func TestAnExpiredChannelIsMadeAnew(t *testing.T) {
	t.Parallel()
	c := connect(t, 3)
	c.synced(t, reconcile.Full)
	c.waitFor(t, "all channels", `SELECT count(*) = 6 FROM channels WHERE state = 'active'`)
	// Zoho forgets, as after eight days; then it is time to renew.
	c.behind.Store(-int64(8 * 24 * time.Hour))
	c.zoho.Update("Contacts", c.zoho.IDs("Contacts")[0], map[string]any{"Title": "Told nobody"})
	c.behind.Store(int64(5 * time.Minute))
	c.exec(t, `UPDATE channels SET due_at = now() - interval '1 second', confirmed_at = NULL`)
	if _, err := c.app.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.waitFor(t, "all channels anew", `SELECT count(*) = 6 FROM channels WHERE state = 'active' AND confirmed_at IS NOT NULL`)
	if n := rows[int](t, c.pool, `SELECT count(DISTINCT module)::int FROM channels WHERE state <> 'removed'`)[0]; n != 6 {
		t.Errorf("%d modules have a channel", n)
	}
	id := c.zoho.IDs("Contacts")[0]
	c.zoho.Update("Contacts", id, map[string]any{"Title": "Told again"})
	c.notified(t)
	if n := rows[int](t, c.pool, `SELECT count(*)::int FROM memories WHERE content LIKE '%Title: Told again%'`)[0]; n != 1 {
		t.Errorf("the change is remembered %d times", n)
	}
}

// The day's credits are spent: webhooks are taken and routed, a sync waits, and
// nothing fails. When there are credits again all goes on.
func TestSpentCreditsOnlyDelay(t *testing.T) {
	t.Parallel()
	c := connect(t, 3)
	c.synced(t, reconcile.Full)
	c.waitFor(t, "a channel for contacts", `SELECT EXISTS (SELECT FROM channels WHERE module = 'Contacts' AND state = 'active')`)
	c.zoho.SpendCredits()
	for _, id := range c.zoho.IDs("Contacts") {
		c.zoho.Update("Contacts", id, map[string]any{"Title": "Spent"})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.zoho.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	c.waitFor(t, "everything is routed", `SELECT NOT EXISTS (SELECT FROM events WHERE status = 'received')`)
	if _, _, err := c.syncs.Start(t.Context(), reconcile.Incremental, reconcile.Actor{Name: "test"}); err != nil {
		t.Fatal(err)
	}
	c.waitFor(t, "the sync waits and says for what", `SELECT EXISTS (SELECT FROM syncs WHERE kind = 'incremental' AND state = 'running' AND waits_for <> '' AND waits_until > now())`)
	if n := rows[int](t, c.pool, `SELECT count(*)::int FROM events WHERE failures > 0 OR status IN ('retrying', 'dead')`)[0]; n != 0 {
		t.Errorf("%d events failed for want of credits", n)
	}
	calls := c.zoho.Calls()

	// A day later. What waits for its time is given it, for a test has no quarter of an hour.
	c.behind.Store(-int64(25 * time.Hour))
	c.exec(t, `UPDATE breakers SET open_until = now() WHERE open_until IS NOT NULL`)
	c.waitFor(t, "everything is worked", `
		WITH now_due AS (UPDATE river_job SET state = 'available', scheduled_at = now() WHERE state = 'scheduled' OR (state = 'available' AND scheduled_at > now()))
		SELECT NOT EXISTS (SELECT FROM events WHERE status <> 'processed') AND EXISTS (SELECT FROM syncs WHERE kind = 'incremental' AND state = 'completed')`)
	if n := rows[int](t, c.pool, `SELECT count(*)::int FROM memories WHERE content LIKE '%Title: Spent%'`)[0]; n != len(c.zoho.IDs("Contacts")) {
		t.Errorf("%d of %d changes are in memory", n, len(c.zoho.IDs("Contacts")))
	}
	if calls > 60 {
		t.Errorf("%d calls were made, most of them without credits", calls)
	}
}

// Somebody revokes the authorisation at Zoho: that is seen, with the remedy, and
// costs no event an attempt.
func TestARevokedAuthorisationIsSeen(t *testing.T) {
	t.Parallel()
	c := connect(t, 3)
	c.synced(t, reconcile.Full)
	c.waitFor(t, "a channel for contacts", `SELECT EXISTS (SELECT FROM channels WHERE module = 'Contacts' AND state = 'active')`)
	c.zoho.RevokeRefreshToken()
	c.zoho.InvalidateAccessTokens()
	for _, id := range c.zoho.IDs("Contacts") {
		c.zoho.Update("Contacts", id, map[string]any{"Title": "Revoked"})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.zoho.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	c.waitFor(t, "everything is routed", `SELECT NOT EXISTS (SELECT FROM events WHERE status = 'received')`)
	c.waitFor(t, "the refusal is on record", `SELECT EXISTS (SELECT FROM zoho_tokens WHERE state = 'revoked')`)
	health := c.get(t, "/webhooks/health")
	if text := fmt.Sprint(health.body["concerns"]); health.body["status"] != "degraded" || !strings.Contains(text, "memrelay zoho connect") {
		t.Errorf("health: %v", health.body)
	}
	if n := rows[int](t, c.pool, `SELECT count(*)::int FROM events WHERE status = 'processed' AND source = 'zoho' OR failures > 0 OR status IN ('retrying', 'dead')`)[0]; n != 0 {
		t.Errorf("%d events failed, or were believed without a read", n)
	}
	if n := c.zoho.TokensIssued(); n != 1 {
		t.Errorf("%d tokens were given out", n)
	}
}
