package demo

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/postgres"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func options(t *testing.T, out *bytes.Buffer) Options {
	t.Helper()
	return Options{DatabaseURL: dbtest.Empty(t), Version: "test", Out: out, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// differing are the lines of the table that are marked, without their figures.
func differing(table string) []string {
	var lines []string
	for line := range strings.Lines(table) {
		if what, marked := strings.CutSuffix(strings.TrimRight(line, " \n"), "DIFFERS"); marked {
			lines = append(lines, regexp.MustCompile(` {2,}`).Split(strings.TrimSpace(what), 2)[0])
		}
	}
	return lines
}

func TestDemoFindsEverythingAsItShouldBe(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := Run(t.Context(), options(t, &out)); err != nil {
		t.Errorf("the demo found: %v", err)
	}
	for _, step := range []string{
		`inbound +received`, `process +routed`, `process +processed`, `memory +memory added`, `outbound +told`, `outbound +relayed`,
		`outbound +attempt 1 +env: 503`, `outbound +delivered`,
		`requests sent +24 +24 +ok`, `answered duplicate +2 +2 +ok`, `jobs left over +0 +0 +ok`, `memories +4 +4 +ok`, `with a wrong signature +0 +0 +ok`,
		`receiver: its copy of the memory +the same +the same +ok`,
	} {
		if !regexp.MustCompile(step).MatchString(out.String()) {
			t.Errorf("the output has no line %q", step)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

func TestDemoNoticesAReceiverThatKnowsAnotherSecret(t *testing.T) {
	t.Parallel()
	r, err := startReceiver("whsec_YW5vdGhlci1zZWNyZXQ=", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.close() })
	var out bytes.Buffer
	if err := run(t.Context(), options(t, &out), r); !errors.Is(err, ErrDiffers) {
		t.Errorf("got %v, want ErrDiffers", err)
	}
	want := []string{"delivered", "attempts, the receiver failing twice", "with a wrong signature", "different webhooks", "receiver: its copy of the memory"}
	if diff := cmp.Diff(want, differing(out.String())); diff != "" {
		t.Errorf("lines that differ (-want +got):\n%s\n%s", diff, out.String())
	}
}

func TestCheckNoticesWhatDiffers(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	o := options(t, &out)
	r, err := startReceiver(receiverSecret, failFirst)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.close() })
	if err := postgres.Migrate(t.Context(), o.DatabaseURL, o.Log); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), o.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	program, err := startProgram(t.Context(), o, r.url)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{base: program.base, pool: pool, out: &out}
	if err := errors.Join(s.play(t.Context()), s.check(t.Context(), r), program.stop()); err != nil {
		t.Fatal(err)
	}

	exec := func(query string) func() {
		return func() {
			t.Helper()
			if _, err := pool.Exec(t.Context(), query); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name        string
		break_, fix func()
		want        []string
	}{
		{
			"an event that is dead", exec(`UPDATE events SET status = 'dead' WHERE id = 1`), exec(`UPDATE events SET status = 'processed' WHERE id = 1`),
			[]string{"processed", "dead"},
		},
		{
			"a job that is left over",
			exec(`INSERT INTO river_job (args, kind, max_attempts, queue, state, finalized_at) VALUES ('{}', 'of_the_test', 25, 'none', 'discarded', now())`),
			exec(`DELETE FROM river_job WHERE kind = 'of_the_test'`),
			[]string{"jobs left over"},
		},
		{
			"a memory of something else",
			exec(`UPDATE memories SET content = replace(content, 'Call back', 'Call never') WHERE module = 'Tasks'`),
			exec(`UPDATE memories SET content = replace(content, 'Call never', 'Call back') WHERE module = 'Tasks'`),
			[]string{"the task", "receiver: its copy of the memory"},
		},
		{
			"a change that nobody was told of",
			exec(`INSERT INTO memory_history (memory_id, user_id, operation) VALUES (gen_random_uuid(), 'of the test', 'added')`),
			exec(`DELETE FROM memory_history WHERE user_id = 'of the test'`),
			[]string{"changes told", "delivered", "attempts, the receiver failing twice", "different webhooks"},
		},
		{
			"a request that is not on record", func() { r.requests++ }, func() { r.requests-- },
			[]string{"receiver: requests"},
		},
		{
			"a receiver that remembers more", func() { r.memories["other"] = copied{content: "?"} }, func() { delete(r.memories, "other") },
			[]string{"receiver: its copy of the memory"},
		},
		{
			"an answer that is another", func() { s.wrong = []string{"a repeat: answered 200 accepted"} }, func() { s.wrong = nil }, nil,
		},
	} {
		out.Reset()
		c.break_()
		if err := s.check(t.Context(), r); !errors.Is(err, ErrDiffers) {
			t.Errorf("%s: %v, want ErrDiffers", c.name, err)
		}
		if diff := cmp.Diff(c.want, differing(out.String())); diff != "" {
			t.Errorf("%s: lines that differ (-want +got):\n%s", c.name, diff)
		}
		c.fix()
	}
	if err := s.check(t.Context(), r); err != nil {
		t.Errorf("with everything as it was: %v", err)
	}
}

func TestReceiverVerifiesBothSignatures(t *testing.T) {
	t.Parallel()
	const body = `{"event":"memory_added"}`
	// Signed by another program than this one.
	header := func(change func(http.Header)) http.Header {
		h := http.Header{}
		h.Set("webhook-id", "msg_1")
		h.Set("webhook-timestamp", "1700000000")
		h.Set("X-Webhook-Signature", "sha256=21fe0efb5f7a407869e2e4e49d5771444400a06917fcf0866e672e64cfdcbc9b")
		h.Set("webhook-signature", "v1,ilsgbdAHxFPTWvhLzkeVcdDrbv1PTtKKulbUtgfThks=")
		change(h)
		return h
	}
	for name, c := range map[string]struct {
		change func(http.Header)
		want   string
	}{
		"as it was signed":           {func(http.Header) {}, ""},
		"one of several fits":        {func(h http.Header) { h.Set("webhook-signature", "v1,AAAA "+h.Get("webhook-signature")) }, ""},
		"another time":               {func(h http.Header) { h.Set("webhook-timestamp", "1700000001") }, "webhook-signature does not fit"},
		"another id":                 {func(h http.Header) { h.Set("webhook-id", "msg_2") }, "webhook-signature does not fit"},
		"another signature":          {func(h http.Header) { h.Set("X-Webhook-Signature", "sha256=00") }, "X-Webhook-Signature does not fit"},
		"without Standard Webhooks'": {func(h http.Header) { h.Del("webhook-signature") }, "webhook-signature does not fit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if err := verify(receiverSecret, header(c.change), []byte(body)); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
