package memory_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/memory"
)

// Whatever somebody sends is either stored as it was sent or refused with the
// field that is wrong: it never becomes an error of the database.
func FuzzWhatIsStoredIsWhatWasSent(f *testing.F) {
	for _, seed := range []struct{ user, content, kind, metadata string }{
		{"ada", "likes tea", "", `{"a":[1,"b",{"c":null}]}`},
		{"ada", "a\x00b", "fact", `{}`},
		{"a\xff", "x", "note", `{"\u0000":"\ud800"}`},
		{"ada", " ", "gossip", `{"n":1e400,"m":-0.0,"o":12345678901234567890.10}`},
		{"ada", "\u2028 € 😀", "correction", `{"n":1E5,"x":0.1e-20}`},
		{"ada", "\r\n\t", "fact", `{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":1}}}}}}}}`},
	} {
		f.Add(seed.user, seed.content, seed.kind, seed.metadata)
	}
	s := newShop(f, "")
	f.Fuzz(func(t *testing.T, user, content, kind, metadata string) {
		n := memory.New{UserID: user, Content: content, Kind: kind}
		decoder := json.NewDecoder(bytes.NewReader([]byte(metadata)))
		decoder.UseNumber()
		if decoder.Decode(&n.Metadata) != nil {
			return // the API says so before
		}
		everyone := memory.Caller{Actor: "admin", All: true}
		r, err := s.Add(t.Context(), everyone, n)
		var wrong *memory.Invalid
		if errors.As(err, &wrong) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Get(t.Context(), everyone, r.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got.UserID != user || got.Content != content {
			t.Errorf("sent %q %q, stored %q %q", user, content, got.UserID, got.Content)
		}
		if diff := cmp.Diff(r.Checksum(), got.Checksum()); diff != "" && cmp.Equal(r.Metadata, got.Metadata) {
			t.Errorf("equal memories have other checksums: %s", diff)
		}
		if len(n.Metadata) != len(got.Metadata) {
			t.Errorf("sent %v, stored %v", n.Metadata, got.Metadata)
		}
	})
}
