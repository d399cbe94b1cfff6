package doctor

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReport(t *testing.T) {
	t.Parallel()
	found := []Finding{
		{"database", OK, "Postgres 17.2 answers", ""},
		{"database", Failure, "fsync is off: what is acknowledged can be lost in a power cut", "ALTER SYSTEM SET fsync = on, and reload"},
		{"disk", Note, "how much of the disk is free cannot be seen from here", "watch the disk"},
		{"river", Warning, "nobody leads", "wait 15 seconds"},
		{"zoho", Skipped, "not looked at: the settings are wrong, see settings", ""},
	}
	var text bytes.Buffer
	if err := NewReport(found).Print(&text); err != nil {
		t.Fatal(err)
	}
	const want = `database
  ✓ Postgres 17.2 answers
  ✗ fsync is off: what is acknowledged can be lost in a power cut
      ALTER SYSTEM SET fsync = on, and reload

disk
  i how much of the disk is free cannot be seen from here
      watch the disk

river
  ! nobody leads
      wait 15 seconds

zoho
  - not looked at: the settings are wrong, see settings

Something is broken: 1 failure, 1 warning, 1 note, 1 ok, 1 skipped
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Error(diff)
	}
	encoded, err := json.Marshal(NewReport(found[3:4]))
	if err != nil {
		t.Fatal(err)
	}
	const machine = `{"status":"warning","counts":{"failure":0,"note":0,"ok":0,"skipped":0,"warning":1},` +
		`"findings":[{"check":"river","status":"warning","found":"nobody leads","remedy":"wait 15 seconds"}]}`
	if diff := cmp.Diff(machine, string(encoded)); diff != "" {
		t.Error(diff)
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		statuses []Status
		status   Status
		verdict  string
	}{
		{nil, OK, "All is well"},
		{[]Status{OK, Skipped}, OK, "All is well"},
		{[]Status{Note, OK}, Note, "All is well"},
		{[]Status{Warning, Note}, Warning, "It works, and something should be seen to"},
		{[]Status{Failure, Warning, OK}, Failure, "Something is broken"},
	} {
		var found []Finding
		for _, s := range c.statuses {
			found = append(found, Finding{Status: s})
		}
		if r := NewReport(found); r.Status != c.status || r.verdict() != c.verdict || r.Findings == nil {
			t.Errorf("%v: %s, %s", c.statuses, r.Status, r.verdict())
		}
	}
}

// What others say must not draw on a terminal, nor fill it.
func TestFindingsAreOneLine(t *testing.T) {
	t.Parallel()
	n := &notes{check: "x"}
	n.fail("do\nthis", "a\x1b[31m\nb%s", string(make([]byte, 3)))
	n.fail("", "%s", string(bytes.Repeat([]byte("é"), 1000)))
	found := n.take()
	if found[0].Found != "a [31m b" || found[0].Remedy != "do this" {
		t.Errorf("%q, %q", found[0].Found, found[0].Remedy)
	}
	if got := len(found[1].Found); got > 610 {
		t.Errorf("%d bytes", got)
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := &patient{o: Options{Now: func() time.Time { return now }}}
	for left, want := range map[time.Duration]Status{
		-time.Hour: Failure, 0: Failure, 3*day - 1: Failure, 3 * day: Warning, 14*day - 1: Warning, 14 * day: "", 100 * day: "",
	} {
		n := &notes{}
		well := p.tellExpiry(n, "it", "renew", now.Add(left))
		if found := n.take(); well != (want == "") || (want != "" && !has(found, want, "it")) {
			t.Errorf("%s: %s", left, lines(found))
		}
	}
	if !p.tellExpiry(&notes{}, "it", "renew", time.Time{}) {
		t.Error("none ends")
	}
}
