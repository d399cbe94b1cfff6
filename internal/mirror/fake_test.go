package mirror

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/memorytest"
)

// fake is another memory system in the test's own memory.
type fake struct {
	mu      sync.Mutex
	copies  map[string]memory.Item // by their ids there
	last    int
	changes int
	calls   []string // what was asked, in order: "add", "find", …
	down    bool
	lose    int
	refused []string
	hold    *held
	fail    func(call string, item memory.Item) error // nil: what goes wrong besides
	pages   int                                       // copies on a page of a list; 0: all
	perUser bool                                      // it does not list those of everybody
	renames bool                                      // an update gives a copy another id
}

// held is a call that stands still.
type held struct {
	call             string // "": any that changes something
	arrived, release chan struct{}
}

var (
	_ memory.Remote     = (*fake)(nil)
	_ memorytest.Server = (*fake)(nil)
)

func newFake() *fake { return &fake{copies: map[string]memory.Item{}} }

func (f *fake) Copies() []memorytest.Copy {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []memorytest.Copy
	for _, item := range f.copies {
		all = append(all, memorytest.Copy{ID: item.ID, Text: item.Content})
	}
	return all
}

func (f *fake) Outage(on bool) { f.set(func() { f.down = on }) }
func (f *fake) Lose(n int)     { f.set(func() { f.lose = n }) }
func (f *fake) Changes() (n int) {
	f.set(func() { n = f.changes })
	return n
}

func (f *fake) Refuse(text string) (relent func()) {
	f.set(func() { f.refused = append(f.refused, text) })
	return func() { f.set(func() { f.refused = nil }) }
}

func (f *fake) Hold() (arrived <-chan struct{}, release func()) { return f.holdCall("") }

func (f *fake) holdCall(call string) (arrived <-chan struct{}, release func()) {
	h := &held{call: call, arrived: make(chan struct{}), release: make(chan struct{})}
	f.set(func() { f.hold = h })
	return h.arrived, sync.OnceFunc(func() { close(h.release) })
}

func (f *fake) set(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// asked returns what was asked since the last time.
func (f *fake) asked() (calls []string) {
	f.set(func() { calls, f.calls = f.calls, nil })
	return calls
}

// enter is the way in of every call.
func (f *fake) enter(ctx context.Context, call string, item memory.Item) error {
	f.mu.Lock()
	f.calls = append(f.calls, call)
	changing := call == "add" || call == "update" || call == "delete"
	if changing {
		f.changes++
	}
	h := f.hold
	if h != nil && (h.call == call || (h.call == "" && changing)) {
		f.hold = nil
	} else {
		h = nil
	}
	bad := slices.ContainsFunc(f.refused, func(text string) bool { return strings.Contains(item.Content, text) })
	f.mu.Unlock()
	if h != nil {
		close(h.arrived)
		select {
		case <-h.release:
		case <-ctx.Done():
			return &memory.RemoteError{Kind: memory.RemoteUnavailable, Sent: true, Err: ctx.Err()}
		}
	}
	f.mu.Lock()
	down, fail := f.down, f.fail
	f.mu.Unlock()
	if fail != nil {
		if err := fail(call, item); err != nil {
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case down:
		return &memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 503, Message: "down for the test", Sent: changing}
	case bad:
		return &memory.RemoteError{Kind: memory.RemoteRefused, Status: 400, Message: "unspeakable"}
	}
	return nil
}

func (f *fake) Add(ctx context.Context, item memory.Item) (string, error) {
	if err := f.enter(ctx, "add", item); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	id := fmt.Sprint("copy-", f.last)
	f.copies[id] = item
	if f.lose > 0 {
		f.lose--
		return "", &memory.RemoteError{Kind: memory.RemoteUnavailable, Message: "the answer is lost", Sent: true}
	}
	return id, nil
}

func (f *fake) Find(ctx context.Context, _ string, id uuid.UUID) (string, error) {
	if err := f.enter(ctx, "find", memory.Item{ID: id}); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for remoteID, item := range f.copies {
		if item.ID == id {
			return remoteID, nil
		}
	}
	return "", nil
}

func (f *fake) Update(ctx context.Context, remoteID string, item memory.Item) (string, error) {
	if err := f.enter(ctx, "update", item); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.copies[remoteID]; !ok {
		return "", &memory.RemoteError{Kind: memory.RemoteGone, Status: 404}
	}
	if f.renames {
		delete(f.copies, remoteID)
		f.last++
		remoteID = fmt.Sprint("copy-", f.last)
	}
	f.copies[remoteID] = item
	return remoteID, nil
}

func (f *fake) Delete(ctx context.Context, remoteID string) error {
	if err := f.enter(ctx, "delete", memory.Item{}); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.copies, remoteID)
	return nil
}

func (f *fake) List(ctx context.Context, userID, cursor string) ([]memory.Copy, string, error) {
	if err := f.enter(ctx, "list", memory.Item{}); err != nil {
		return nil, "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.perUser && userID == "" {
		return nil, "", &memory.RemoteError{Kind: memory.RemoteRefused, Message: "whose?"}
	}
	var all []memory.Copy
	for id, item := range f.copies {
		if userID == "" || item.UserID == userID {
			all = append(all, memory.Copy{RemoteID: id, ID: item.ID, UserID: item.UserID, Checksum: item.Checksum})
		}
	}
	slices.SortFunc(all, func(a, b memory.Copy) int { return strings.Compare(a.RemoteID, b.RemoteID) })
	if f.pages == 0 {
		return all, "", nil
	}
	from, _ := strconv.Atoi(cursor)
	to := min(from+f.pages, len(all))
	if to == len(all) {
		return all[from:], "", nil
	}
	return all[from:to], strconv.Itoa(to), nil
}

func (f *fake) Ping(ctx context.Context) error { return f.enter(ctx, "ping", memory.Item{}) }
