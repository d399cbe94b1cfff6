package mem0_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/mem0"
	"github.com/memrelay/memrelay/internal/memory/mem0/mem0test"
)

// put has n memories of somebody else in mem0.
func put(srv *mem0test.Server, userID string, n int) {
	for i := range n {
		srv.Put(mem0test.Memory{UserID: userID, Text: "likes tea", Metadata: map[string]any{"memrelay_id": i}})
	}
}

// listed is all of a list, and how many pages it had.
func listed(t *testing.T, c *mem0.Client, userID string) (copies []memory.Copy, pages int) {
	t.Helper()
	for cursor := ""; ; {
		page, next, err := c.List(t.Context(), userID, cursor)
		if err != nil {
			t.Fatal(err)
		}
		copies, pages, cursor = append(copies, page...), pages+1, next
		if cursor == "" {
			return copies, pages
		}
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, srv *mem0test.Server, c *mem0.Client) {
		if copies, pages := listed(t, c, testUser); len(copies) != 0 || pages != 1 {
			t.Errorf("%v on %d pages", copies, pages)
		}
		put(srv, testUser, 150)
		past := time.Now().Add(-48 * time.Hour)
		first := added(t, c, item(func(i *memory.Item) { i.ExpiresAt = &past }))
		put(srv, testUser, 150)
		second := added(t, c, item(func(i *memory.Item) { i.ID, i.Checksum = otherID, "" }))
		third := added(t, c, item(func(i *memory.Item) { i.UserID = "zoho:2" }))
		want := []memory.Copy{
			{RemoteID: first, ID: testID, UserID: testUser, Checksum: "c0ffee"},
			{RemoteID: second, ID: otherID, UserID: testUser},
			{RemoteID: third, ID: testID, UserID: "zoho:2", Checksum: "c0ffee"},
		}
		pages := 4
		if c.Form() == mem0.Server {
			pages = 1
		}
		got, n := listed(t, c, testUser)
		if d := cmp.Diff(want[:2], got); d != "" || n != pages {
			t.Errorf("%s on %d pages", d, n)
		}
		got, n = listed(t, c, "")
		if d := cmp.Diff(want, got); d != "" || n != pages {
			t.Errorf("%s on %d pages", d, n)
		}
		if found := must[string](t)(c.Find(t.Context(), testUser, otherID)); found != second {
			t.Errorf("found %q", found)
		}
		if found := must[string](t)(c.Find(t.Context(), testUser, uuid.Nil)); found != "" {
			t.Errorf("found %q", found)
		}
		for _, cursor := range []string{"0", "-1", "x", "1.5", "100001"} {
			if _, _, err := c.List(t.Context(), testUser, cursor); errorOf(t, err).Kind != memory.RemoteRefused {
				t.Errorf("%s: %v", cursor, err)
			}
		}
	})
}

// The open-source server has one page: half a list is none, and what is not on it
// is searched for.
func TestServerListIsFull(t *testing.T) {
	t.Parallel()
	srv, c := started(t, mem0test.Options{Server: true})
	put(srv, testUser, 999)
	if _, _, err := c.List(t.Context(), testUser, ""); err != nil {
		t.Fatal(err)
	}
	put(srv, testUser, 1)
	id := added(t, c, item())
	for _, userID := range []string{testUser, ""} {
		copies, _, err := c.List(t.Context(), userID, "")
		if e := errorOf(t, err); e.Kind != memory.RemoteRefused || copies != nil {
			t.Errorf("%v %v", copies, err)
		}
	}
	if found := must[string](t)(c.Find(t.Context(), testUser, testID)); found != id {
		t.Errorf("found %q", found)
	}
	if found := must[string](t)(c.Find(t.Context(), testUser, otherID)); found != "" {
		t.Errorf("found %q", found)
	}
}

// Find gives up in the end, and does not say that there is nothing.
func TestFindIsBounded(t *testing.T) {
	t.Parallel()
	calls := 0
	c := answering(t, mem0.Platform, func(w http.ResponseWriter, r *http.Request) {
		calls++
		if r.URL.Query().Get("page") != strconv.Itoa(calls) {
			t.Errorf("call %d: %s", calls, r.URL.RawQuery)
		}
		_, _ = io.WriteString(w, `{"count":1000000,"next":"https://elsewhere.example/","previous":null,"results":[{"id":"a","metadata":null}]}`)
	})
	_, err := c.Find(t.Context(), testUser, testID)
	if e := errorOf(t, err); e.Kind != memory.RemoteUnavailable || calls != 200 {
		t.Errorf("%d calls: %v", calls, err)
	}
}

// Others keep things in mem0, too.
func TestStrangeRows(t *testing.T) {
	t.Parallel()
	ours := fmt.Sprintf(`{"id":"a","user_id":"u","metadata":{"memrelay_id":%q,"memrelay_checksum":7}}`, testID)
	strange := []string{
		`{}`, `{"id":7}`, `{"id":"x","user_id":8,"metadata":"text"}`, `{"id":"x","metadata":[1]}`, `{"id":"x","metadata":{"memrelay_id":{}}}`,
		`{"id":"x","metadata":{"memrelay_id":"no id"}}`, fmt.Sprintf(`{"metadata":{"memrelay_id":%q}}`, testID),
		`{"id":"x","memory":null}`,
	}
	rows := strings.Join(slices.Concat(strange, []string{ours}), ",")
	want := []memory.Copy{{RemoteID: "a", ID: testID, UserID: "u"}}
	for form, texts := range map[mem0.Form][]string{
		mem0.Platform: {`{"count":9,"next":null,"results":[` + rows + `]}`, `{"results":[` + rows + `],"next":""}`, `[` + rows + `]`},
		mem0.Server:   {`{"results":[` + rows + `],"relations":[]}`, `[` + rows + `]`},
	} {
		for _, text := range texts {
			copies, next, err := answering(t, form, saying(text)).List(t.Context(), "u", "")
			if d := cmp.Diff(want, copies); d != "" || next != "" || err != nil {
				t.Errorf("%s: %s %q %v", text, d, next, err)
			}
		}
	}
	for _, text := range []string{`{}`, `null`, `{"results":null}`, `{"results":[` + rows, `<html>`} {
		for _, form := range []mem0.Form{mem0.Platform, mem0.Server} {
			if found, err := answering(t, form, saying(text)).Find(t.Context(), "u", otherID); errorOf(t, err).Kind != memory.RemoteUnavailable {
				t.Errorf("%s: %q", text, found)
			}
		}
	}
}
