package zoho

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// held is a request that waits for its answer.
type held struct {
	path   string
	ids    []string
	query  map[string][]string
	gone   <-chan struct{} // closed when the client gave up
	answer chan http.HandlerFunc
}

// records answers with those asked for.
func (h held) records() { h.answer <- recordsOf(h.ids...) }

func recordsOf(ids ...string) http.HandlerFunc {
	var rows []string
	for _, id := range ids {
		rows = append(rows, fmt.Sprintf(`{"id":%q,"Owner":{"id":"1"}}`, id))
	}
	return saying(200, `{"data":[`+strings.Join(rows, ",")+`],"info":{"more_records":false}}`)
}

// idsOf are the ids that a call asks for.
func idsOf(r *http.Request) []string { return strings.Split(r.URL.Query().Get("ids"), ",") }

// holding makes a client whose calls wait until the test answers them.
func holding(t *testing.T, change ...func(*Options)) (*Client, *testClock, <-chan held) {
	t.Helper()
	calls := make(chan held)
	c, clock := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		h := held{r.URL.Path, idsOf(r), r.URL.Query(), r.Context().Done(), make(chan http.HandlerFunc)}
		select {
		case calls <- h:
		case <-r.Context().Done():
			return
		}
		select {
		case answer := <-h.answer:
			answer(w, r)
		case <-r.Context().Done():
		}
	}, change...)
	clock.byHand = true
	return c, clock, calls
}

// reading is a Read under way.
type reading struct {
	done  chan struct{}
	found map[string]Record
	err   error
}

// read begins a Read and returns once it has joined.
func read(ctx context.Context, t *testing.T, c *Client, module string, ids ...string) *reading {
	t.Helper()
	r := &reading{done: make(chan struct{})}
	joined := &joining{Context: ctx, waits: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.found, r.err = c.Read(joined, module, ids)
	}()
	<-joined.waits
	return r
}

// joining is a context that tells when somebody first waits for its end: a Read
// does so when it has joined.
type joining struct {
	context.Context
	once  sync.Once
	waits chan struct{}
}

func (j *joining) Done() <-chan struct{} {
	j.once.Do(func() { close(j.waits) })
	return j.Context.Done()
}

// want waits for the Read and says what it has to have found.
func (r *reading) want(t *testing.T, ids ...string) {
	t.Helper()
	<-r.done
	if r.err != nil {
		t.Errorf("read: %v", r.err)
	}
	var got []string
	for id := range r.found {
		got = append(got, id)
	}
	slices.Sort(got)
	if d := cmp.Diff(ids, got); d != "" {
		t.Error(d)
	}
}

// underWay is how many calls of a module are under way, and how many ids wait.
func underWay(c *Client, module string) (calls, pending int) {
	c.gather.mu.Lock()
	defer c.gather.mu.Unlock()
	m := c.gather.modules[module]
	return m.calls, len(m.pending)
}

func TestAnIdleReadDoesNotWait(t *testing.T) {
	t.Parallel()
	c, clock, calls := holding(t)
	first := read(t.Context(), t, c, "Contacts", "1", "2", "1", "")
	h := <-calls
	if d := cmp.Diff([]string{"1", "2"}, h.ids); d != "" || h.path != "/crm/v8/Contacts" {
		t.Errorf("%s\n%s", h.path, d)
	}
	if d := cmp.Diff(map[string][]string{
		"ids": {"1,2"}, "fields": {strings.Join(c.Fields("Contacts"), ",")}, "per_page": {"200"},
	}, h.query); d != "" {
		t.Error(d)
	}
	h.answer <- recordsOf("2", "3")
	first.want(t, "2") // 1 is gone, and 3 nobody asked for
	if len(clock.waited()) > 0 {
		t.Errorf("waited %v", clock.waited())
	}
	// Idle again: no wait either.
	second := read(t.Context(), t, c, "Contacts", "1")
	(<-calls).answer <- saying(204, "")
	second.want(t)
	if c.Calls() != 2 {
		t.Errorf("%d calls", c.Calls())
	}
}

func TestReadsGatherWhileOneIsUnderWay(t *testing.T) {
	t.Parallel()
	c, _, calls := holding(t)
	first := read(t.Context(), t, c, "Contacts", "1")
	inFlight := <-calls
	// A call on its way is not joined: what it will answer may be older than the
	// question. Among those that wait, the same id is asked for once.
	again := read(t.Context(), t, c, "Contacts", "1")
	second := read(t.Context(), t, c, "Contacts", "2", "3")
	third := read(t.Context(), t, c, "Contacts", "3", "4")
	if n, pending := underWay(c, "Contacts"); n != 1 || pending != 4 {
		t.Fatalf("%d calls are under way and %d ids wait, want 1 and 4", n, pending)
	}
	// Other modules have nothing to do with it.
	other := read(t.Context(), t, c, "Deals", "1")
	deals := <-calls
	if deals.path != "/crm/v8/Deals" {
		t.Errorf("asked %s", deals.path)
	}
	deals.records()
	other.want(t, "1")

	inFlight.records()
	first.want(t, "1")
	h := <-calls // none is under way any more: nobody waits
	if d := cmp.Diff([]string{"1", "2", "3", "4"}, h.ids); d != "" {
		t.Error(d)
	}
	h.records()
	again.want(t, "1")
	second.want(t, "2", "3")
	third.want(t, "3", "4")
	if c.Calls() != 3 {
		t.Errorf("%d calls", c.Calls())
	}
}

func TestEnoughReadsAreWorthACall(t *testing.T) {
	t.Parallel()
	c, _, calls := holding(t, func(o *Options) { o.GatherLeast = 3 })
	first := read(t.Context(), t, c, "Contacts", "1")
	inFlight := <-calls
	var rest []*reading
	for _, id := range []string{"2", "3"} {
		rest = append(rest, read(t.Context(), t, c, "Contacts", id))
	}
	if n, _ := underWay(c, "Contacts"); n != 1 {
		t.Fatal("two reads were thought enough, want three")
	}
	rest = append(rest, read(t.Context(), t, c, "Contacts", "4"))
	h := <-calls // though the first is still under way
	if d := cmp.Diff([]string{"2", "3", "4"}, h.ids); d != "" {
		t.Error(d)
	}
	h.records()
	for i, r := range rest {
		r.want(t, strconv.Itoa(i+2))
	}
	inFlight.records()
	first.want(t, "1")
}

func TestNobodyWaitsForLong(t *testing.T) {
	t.Parallel()
	c, clock, calls := holding(t, func(o *Options) { o.GatherWait = 5 * time.Second })
	first := read(t.Context(), t, c, "Contacts", "1")
	inFlight := <-calls
	second := read(t.Context(), t, c, "Contacts", "2")
	clock.Advance(3 * time.Second)
	third := read(t.Context(), t, c, "Contacts", "3")
	clock.Advance(1900 * time.Millisecond)
	if n, pending := underWay(c, "Contacts"); n != 1 || pending != 2 {
		t.Fatalf("%d calls are under way and %d ids wait, want 1 and 2", n, pending)
	}
	clock.Advance(100 * time.Millisecond)
	h := <-calls // the third comes along
	if d := cmp.Diff([]string{"2", "3"}, h.ids); d != "" {
		t.Error(d)
	}
	// The next one waits from its own beginning.
	fourth := read(t.Context(), t, c, "Contacts", "4")
	clock.Advance(4900 * time.Millisecond)
	if n, pending := underWay(c, "Contacts"); n != 2 || pending != 1 {
		t.Fatalf("%d calls are under way and %d ids wait, want 2 and 1", n, pending)
	}
	clock.Advance(100 * time.Millisecond)
	last := <-calls
	for _, h := range []held{inFlight, h, last} {
		h.records()
	}
	first.want(t, "1")
	second.want(t, "2")
	third.want(t, "3")
	fourth.want(t, "4")
}

// A call that waits for its slot is not sent, so that it can still be joined: 250
// readers at one time are four calls.
func TestACrowdOfReaders(t *testing.T) {
	t.Parallel()
	c, _, calls := holding(t, func(o *Options) { o.Concurrency = 1 })
	var all []*reading
	all = append(all, read(t.Context(), t, c, "Contacts", "1000"))
	h := <-calls
	for i := 1; i < 250; i++ {
		all = append(all, read(t.Context(), t, c, "Contacts", strconv.Itoa(1000+i)))
	}
	asked := map[string]int{}
	var sizes []int
	for {
		sizes = append(sizes, len(h.ids))
		for _, id := range h.ids {
			asked[id]++
		}
		h.records()
		if len(asked) == 250 {
			break
		}
		h = <-calls
	}
	if d := cmp.Diff([]int{1, 100, 100, 49}, sizes); d != "" {
		t.Error(d)
	}
	for i, r := range all {
		r.want(t, strconv.Itoa(1000+i))
		if n := asked[strconv.Itoa(1000+i)]; n != 1 {
			t.Errorf("id %d was asked for %d times", 1000+i, n)
		}
	}
}

func TestACrowdAtFullSpeed(t *testing.T) {
	t.Parallel()
	c, _ := clientOf(t, func(w http.ResponseWriter, r *http.Request) { recordsOf(idsOf(r)...)(w, r) })
	var all sync.WaitGroup
	for i := range 500 {
		all.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%7 == 0 {
				go cancel()
			}
			id := strconv.Itoa(i % 300)
			found, err := c.Read(ctx, "Contacts", []string{id})
			if ctx.Err() == nil && (err != nil || found[id].ID() != id) {
				t.Errorf("id %s: %v, %v", id, found, err)
			}
		})
	}
	all.Wait()
	if n := c.Calls(); n > 100 {
		t.Errorf("%d calls for 500 reads", n)
	}
}

func TestMoreIDsThanACallTakes(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var sizes []int
	c, _ := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		sizes = append(sizes, len(idsOf(r)))
		mu.Unlock()
		recordsOf(idsOf(r)...)(w, r)
	})
	var ids []string
	for i := range 205 {
		ids = append(ids, strconv.Itoa(i))
	}
	found, err := c.Read(t.Context(), "Contacts", ids)
	slices.Sort(sizes)
	if d := cmp.Diff([]int{5, 100, 100}, sizes); d != "" || err != nil || len(found) != 205 {
		t.Errorf("%d found, %v\n%s", len(found), err, d)
	}
}

func TestAReaderWhoLeaves(t *testing.T) {
	t.Parallel()
	c, _, calls := holding(t)
	first := read(t.Context(), t, c, "Contacts", "1")
	inFlight := <-calls
	leaving, leave := context.WithCancel(t.Context())
	alone := read(leaving, t, c, "Contacts", "2", "3")
	shared := read(t.Context(), t, c, "Contacts", "3", "4")
	leave()
	<-alone.done
	if KindOf(alone.err) != KindUnavailable || !errors.Is(alone.err, context.Canceled) {
		t.Errorf("who left got %v", alone.err)
	}
	inFlight.records()
	first.want(t, "1")

	// What only they wanted is not asked for, and the other has what it wanted.
	h := <-calls
	if d := cmp.Diff([]string{"3", "4"}, h.ids); d != "" {
		t.Error(d)
	}
	leaving, leave = context.WithCancel(t.Context())
	h.records()
	shared.want(t, "3", "4")

	// One of two leaves a call that is under way.
	blocker := read(t.Context(), t, c, "Contacts", "5")
	blocked := <-calls
	one, two := read(leaving, t, c, "Contacts", "6"), read(t.Context(), t, c, "Contacts", "7")
	blocked.records()
	blocker.want(t, "5")
	h = <-calls
	leave()
	<-one.done
	h.records()
	two.want(t, "7")
	if one.err == nil {
		t.Error("who left got an answer")
	}
}

func TestACallThatNobodyWaitsForEnds(t *testing.T) {
	t.Parallel()
	c, _, calls := holding(t)
	leaving, leave := context.WithCancel(t.Context())
	one := read(leaving, t, c, "Contacts", "1", "2")
	h := <-calls
	leave()
	<-h.gone
	<-one.done
	// The next one is not held up.
	next := read(t.Context(), t, c, "Contacts", "3")
	(<-calls).records()
	next.want(t, "3")
}

func TestWhoeverWaitsMayAllLeave(t *testing.T) {
	t.Parallel()
	c, clock, calls := holding(t, func(o *Options) { o.Concurrency, o.GatherLeast = 1, 1 })
	first := read(t.Context(), t, c, "Contacts", "1")
	inFlight := <-calls
	leaving, leave := context.WithCancel(t.Context())
	gone := read(leaving, t, c, "Contacts", "2")
	leave()
	<-gone.done
	inFlight.records() // now the call for 2 has its slot, and nothing to ask
	first.want(t, "1")
	for n := 1; n > 0; n, _ = underWay(c, "Contacts") {
		select {
		case h := <-calls:
			t.Fatalf("asked for %q, which nobody wants", h.ids)
		default:
			runtime.Gosched()
		}
	}
	clock.Advance(time.Minute)
	last := read(t.Context(), t, c, "Contacts", "3")
	h := <-calls
	if d := cmp.Diff([]string{"3"}, h.ids); d != "" {
		t.Error(d)
	}
	h.records()
	last.want(t, "3")
}

func TestAnErrorGoesToEveryReader(t *testing.T) {
	t.Parallel()
	c, _, calls := holding(t)
	first := read(t.Context(), t, c, "Contacts", "1")
	inFlight := <-calls
	second, third := read(t.Context(), t, c, "Contacts", "2"), read(t.Context(), t, c, "Contacts", "3")
	inFlight.records()
	first.want(t, "1")
	(<-calls).answer <- saying(403, problemOf("NO_PERMISSION", "permission denied"))
	for _, r := range []*reading{second, third} {
		<-r.done
		if KindOf(r.err) != KindForbidden || r.found != nil {
			t.Errorf("%v, %v", r.found, r.err)
		}
	}
}

func TestReadersAtAShutGate(t *testing.T) {
	t.Parallel()
	gate := &testGate{shut: &Error{Kind: KindUnavailable, Op: "wait", RetryAfter: time.Minute}}
	c, _ := clientOf(t, recordsOf("1"), func(o *Options) { o.Gate = gate })
	for range 3 {
		if _, err := c.Read(t.Context(), "Contacts", []string{"1", "2"}); RetryAfter(err) != time.Minute {
			t.Fatalf("shut: %v", err)
		}
	}
	gate.mu.Lock()
	gate.shut = nil
	gate.mu.Unlock()
	if found, err := c.Read(t.Context(), "Contacts", []string{"1", "2"}); err != nil || len(found) != 1 {
		t.Errorf("open: %v, %v", found, err)
	}
}

func TestOneBadIDFailsAlone(t *testing.T) {
	t.Parallel()
	const bad = "666"
	for _, tc := range []struct {
		name    string
		says    http.HandlerFunc // to a call with the bad id
		want    Kind             // of who asked for it; 0: it is not there
		isGone  bool
		mostOf  int64 // calls
		affects bool  // everybody
	}{
		{"refused", saying(400, problemOf("INVALID_DATA", "the id given seems to be invalid")), KindInvalid, false, 20, false},
		{"refused by name", saying(400, `{"code":"PATTERN_NOT_MATCHED","details":{"param_name":"ids"},"message":"no","status":"error"}`), KindInvalid, false, 20, false},
		{"not there", saying(400, problemOf("INVALID_DATA", "The record does not exist")), 0, true, 20, false},
		{"too large", saying(200, strings.Repeat(" ", 20_000)), KindTooLarge, false, 20, false},
		{"Zoho fails on it", saying(500, problemOf("INTERNAL_ERROR", "no")), KindInvalid, false, 16, false},
		{"something else is wrong", saying(400, `{"code":"INVALID_DATA","details":{"param_name":"fields"},"message":"no","status":"error"}`), KindInvalid, false, 2, true},
		{"the module is wrong", saying(400, problemOf("INVALID_MODULE", "no")), KindInvalid, false, 2, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			arrived, block := make(chan struct{}), make(chan struct{})
			c, clock := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
				switch ids := idsOf(r); {
				case ids[0] == "1":
					close(arrived)
					<-block
					recordsOf(ids...)(w, r)
				case slices.Contains(ids, bad):
					tc.says(w, r)
				default:
					recordsOf(ids...)(w, r)
				}
			}, func(o *Options) { o.GatherLeast, o.MaxAnswer = 100, 10_000 })
			clock.byHand = true
			first := read(t.Context(), t, c, "Contacts", "1")
			<-arrived
			all := map[string]*reading{}
			for i := range 40 {
				id := strconv.Itoa(650 + i)
				all[id] = read(t.Context(), t, c, "Contacts", id)
			}
			clock.runs()
			close(block)
			first.want(t, "1")
			for id, r := range all {
				<-r.done
				switch {
				case id == bad || tc.affects:
					if KindOf(r.err) != tc.want || r.found[id] != nil || (r.found != nil) != tc.isGone {
						t.Errorf("the bad id: %v, %v", r.found, r.err)
					}
				case r.err != nil || r.found[id].ID() != id:
					t.Errorf("id %s: %v, %v", id, r.found, r.err)
				}
			}
			if c.Calls() > tc.mostOf {
				t.Errorf("%d calls, want at most %d", c.Calls(), tc.mostOf)
			}
		})
	}
}

// failing is a Zoho that fails on some ids, singly and in lists.
func failing(bad ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ids := idsOf(r)
		if r.URL.Query().Get("ids") == "" {
			ids = []string{"1"} // the oldest
		}
		if slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(bad, id) }) {
			saying(500, problemOf("INTERNAL_ERROR", "no"))(w, r)
			return
		}
		recordsOf(ids...)(w, r)
	}
}

// together are readers of one id each, n < 100 from 101 on, that are asked for in
// one call.
func together(t *testing.T, n int, h http.HandlerFunc, gate Gate) (*Client, map[string]*reading) {
	t.Helper()
	arrived, block := make(chan struct{}), make(chan struct{})
	c, clock := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("ids") == "7" {
			close(arrived)
			<-block
			recordsOf("7")(w, r)
			return
		}
		h(w, r)
	}, func(o *Options) { o.GatherLeast, o.Gate = 100, gate })
	clock.byHand = true
	first := read(t.Context(), t, c, "Contacts", "7")
	<-arrived
	all := map[string]*reading{}
	for i := range n {
		id := strconv.Itoa(101 + i)
		all[id] = read(t.Context(), t, c, "Contacts", id)
	}
	clock.runs()
	close(block)
	first.want(t, "7")
	for _, r := range all {
		<-r.done
	}
	return c, all
}

func TestRecordsThatZohoFailsOn(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		n     int
		bad   []string
		calls int64 // at most
	}{
		{99, []string{"101"}, 17}, {99, []string{"199"}, 17}, {99, []string{"151"}, 17},
		{99, []string{"101", "199"}, 31}, {99, []string{"150", "151"}, 31},
		{2, []string{"101"}, 6}, {2, []string{"102"}, 6}, {3, []string{"101", "103"}, 9},
	} {
		t.Run(fmt.Sprint(tc.bad, " of ", tc.n), func(t *testing.T) {
			t.Parallel()
			gate := &testGate{}
			c, all := together(t, tc.n, failing(tc.bad...), gate)
			for id, r := range all {
				if slices.Contains(tc.bad, id) {
					if e := errorOf(t, r.err); e.Kind != KindInvalid || e.Code != "" || !strings.Contains(e.Error(), "this record alone") {
						t.Errorf("id %s: %v", id, r.err)
					}
				} else if r.err != nil || r.found[id].ID() != id {
					t.Errorf("id %s: %v", id, r.err)
				}
			}
			if c.Calls() > tc.calls {
				t.Errorf("%d calls, want at most %d", c.Calls(), tc.calls)
			}
			// It is an outage until Zoho answers for one part, and not after that.
			told := gate.reports()[1:]
			good := slices.Index(told, 0)
			if good < 0 || good > 5 || slices.ContainsFunc(told[good:], func(k Kind) bool { return k != 0 }) {
				t.Errorf("the gate was told %v", told)
			}
		})
	}
}

func TestManyRecordsThatZohoFailsOn(t *testing.T) {
	t.Parallel()
	var bad []string
	for i := 126; i < 200; i += 2 {
		bad = append(bad, strconv.Itoa(i))
	}
	c, all := together(t, 99, failing(bad...), nil)
	for id, r := range all {
		if n, _ := strconv.Atoi(id); n < 124 && r.err != nil {
			t.Errorf("id %s: %v", id, r.err)
		}
		if slices.Contains(bad, id) && r.err == nil {
			t.Errorf("id %s was found, or is gone: %v", id, r.found)
		}
	}
	if c.Calls() > 31 {
		t.Errorf("%d calls for 99 reads", c.Calls())
	}
}

func TestAnOutageIsNoRecordsFault(t *testing.T) {
	t.Parallel()
	gate := &testGate{}
	no := saying(500, problemOf("INTERNAL_ERROR", "no"))
	c, all := together(t, 99, no, gate)
	for id, r := range all {
		if KindOf(r.err) != KindUnavailable {
			t.Errorf("id %s: %v", id, r.err)
		}
	}
	if n := c.Calls(); n > 9 || slices.Contains(gate.reports()[1:], 0) {
		t.Errorf("%d calls, and the gate was told %v", n, gate.reports())
	}
	lone, _ := clientOf(t, no)
	if _, err := lone.Read(t.Context(), "Contacts", []string{"7"}); KindOf(err) != KindUnavailable || lone.Calls() != 3 {
		t.Errorf("alone: %v after %d calls", err, lone.Calls())
	}
}

func TestALoneRecordThatZohoFailsOn(t *testing.T) {
	t.Parallel()
	no := saying(500, problemOf("INTERNAL_ERROR", "no"))
	for _, tc := range []struct {
		name  string
		says  http.HandlerFunc
		want  Kind
		calls int64
		gate  []Kind
	}{
		{"others are shown", failing("7"), KindInvalid, 4, []Kind{KindUnavailable, KindUnavailable, 0, 0}},
		{"it was an outage, which is over", inTurn(no, no, recordsOf("1"), recordsOf("7")), 0, 4, []Kind{KindUnavailable, KindUnavailable, 0, 0}},
		{"there are no others", inTurn(no, no, saying(204, ""), no), KindUnavailable, 3, []Kind{KindUnavailable, KindUnavailable, 0}},
		{"it is the oldest", inTurn(no, no, recordsOf("7"), no), KindUnavailable, 3, []Kind{KindUnavailable, KindUnavailable, 0}},
		{"nothing else is wrong", saying(503, problemOf("INTERNAL_ERROR", "no")), KindUnavailable, 2, []Kind{KindUnavailable, KindUnavailable}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			gate := &testGate{}
			c, _ := clientOf(t, tc.says, func(o *Options) { o.Gate = gate })
			found, err := c.Read(t.Context(), "Contacts", []string{"7"})
			if KindOf(err) != tc.want || (found["7"] != nil) != (tc.want == 0) || c.Calls() != tc.calls {
				t.Errorf("%v, %v after %d calls", found, err, c.Calls())
			}
			if d := cmp.Diff(tc.gate, gate.reports()); d != "" {
				t.Error(d)
			}
		})
	}
}

// A part that fails when Zoho has not yet answered for any may have met an outage.
func TestAnOutageThatEndsBetweenTheHalves(t *testing.T) {
	t.Parallel()
	no := saying(500, problemOf("INTERNAL_ERROR", "no"))
	_, all := together(t, 2, inTurn(no, no, no, failing()), nil)
	for id, r := range all {
		r.want(t, id)
	}
}

func TestWhatIsNotShownOfMoreIsNotGone(t *testing.T) {
	t.Parallel()
	c, _ := clientOf(t, saying(200, `{"data":[{"id":"1"}],"info":{"more_records":true}}`))
	if found, err := c.Read(t.Context(), "Contacts", []string{"1", "2"}); KindOf(err) != KindUnavailable {
		t.Errorf("one of two: %v, %v", found, err)
	}
	if found, err := c.Read(t.Context(), "Contacts", []string{"1"}); err != nil || len(found) != 1 {
		t.Errorf("all: %v, %v", found, err)
	}
}

func TestIDsThatAreNone(t *testing.T) {
	t.Parallel()
	c, _ := clientOf(t, recordsOf("1"))
	for _, id := range []string{"1,2", "../Users", "1 2", "1?x=y", "ä"} {
		if _, err := c.Read(t.Context(), "Contacts", []string{"7", id}); KindOf(err) != KindInvalid {
			t.Errorf("read %q: %v", id, err)
		}
		if _, err := c.Get(t.Context(), "Contacts", id); KindOf(err) != KindInvalid {
			t.Errorf("get %q: %v", id, err)
		}
		if _, err := c.List(t.Context(), id, ListOptions{}); KindOf(err) != KindInvalid {
			t.Errorf("list %q: %v", id, err)
		}
	}
	if found, err := c.Read(t.Context(), "Contacts", nil); err != nil || found == nil || len(found) != 0 {
		t.Errorf("no ids: %v, %v", found, err)
	}
	if c.Calls() != 0 {
		t.Errorf("%d calls", c.Calls())
	}
}

func TestIDsAsNumbers(t *testing.T) {
	t.Parallel()
	const id = "9007199254740993" // 2^53 + 1, which a float64 does not hold
	c, _ := clientOf(t, saying(200, `{"data":[{"id":`+id+`,"What_Id":{"id":`+id+`}}]}`))
	found, err := c.Read(t.Context(), "Tasks", []string{id})
	if err != nil || string(found[id]["What_Id"]) != `{"id":`+id+`}` {
		t.Errorf("%v, %v", found, err)
	}
}

// cutting is a Zoho that cuts texts in lists: of the ids in whole, which has the
// answers to their single reads.
func cutting(whole map[string]http.HandlerFunc, single *[]string) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		if id, ok := strings.CutPrefix(r.URL.Path, "/crm/v8/Notes/"); ok {
			mu.Lock()
			*single = append(*single, id)
			mu.Unlock()
			whole[id](w, r)
			return
		}
		saying(200, `{"data":[`+
			`{"id":"1","Note_Content":"`+strings.Repeat("ä", 500)+`"},`+
			`{"id":"2","Note_Content":"`+strings.Repeat("x", 499)+`"},`+
			`{"id":"3","Note_Content":"`+strings.Repeat(`\n`, 500)+`"},`+
			`{"id":"4","Note_Content":"`+strings.Repeat("😀", 250)+`"},`+
			`{"id":"5","Note_Content":"`+strings.Repeat("x", 501)+`"},`+
			`{"id":"6","Note_Content":"`+strings.Repeat("😀", 500)+`"}`+
			`]}`)(w, r)
	}
}

func TestCutTextsAreReadWhole(t *testing.T) {
	t.Parallel()
	text := func(id string, n int) http.HandlerFunc {
		return saying(200, `{"data":[{"id":"`+id+`","Note_Content":"`+strings.Repeat("w", n)+`"}]}`)
	}
	var single []string
	c, _ := clientOf(t, cutting(map[string]http.HandlerFunc{
		"1": text("1", 900), "3": saying(204, ""), "4": text("4", 500), "6": text("6", 700),
	}, &single))
	found, err := c.Read(t.Context(), "Notes", []string{"1", "2", "3", "4", "5", "6"})
	if err != nil {
		t.Fatal(err)
	}
	lengths := map[string]int{}
	for id, r := range found {
		lengths[id] = len(r["Note_Content"]) - 2
	}
	// 3 went away between the two reads.
	if d := cmp.Diff(map[string]int{"1": 900, "2": 499, "4": 500, "5": 501, "6": 700}, lengths); d != "" {
		t.Error(d)
	}
	slices.Sort(single)
	if d := cmp.Diff([]string{"1", "3", "4", "6"}, single); d != "" {
		t.Error(d)
	}

	page, err := c.List(t.Context(), "Notes", ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	records, err := c.Whole(t.Context(), "Notes", page.Records)
	var ids []string
	for _, r := range records {
		ids = append(ids, r.ID())
	}
	if d := cmp.Diff([]string{"1", "2", "4", "5", "6"}, ids); d != "" || err != nil || len(page.Records) != 6 {
		t.Errorf("%v\n%s", err, d)
	}
}

// The list has shown the record, so that Zoho is there.
func TestACutTextThatZohoFailsOn(t *testing.T) {
	t.Parallel()
	var single []string
	gate := &testGate{}
	no := saying(500, problemOf("INTERNAL_ERROR", "no"))
	c, _ := clientOf(t, cutting(map[string]http.HandlerFunc{"1": no, "3": no, "4": no, "6": no}, &single),
		func(o *Options) { o.Gate = gate })
	if _, err := c.Read(t.Context(), "Notes", []string{"1"}); KindOf(err) != KindInvalid {
		t.Errorf("read: %v", err)
	}
	if d := cmp.Diff([]Kind{0, KindUnavailable, 0}, gate.reports()); d != "" {
		t.Error(d)
	}
	page, _ := c.List(t.Context(), "Notes", ListOptions{})
	if _, err := c.Whole(t.Context(), "Notes", page.Records); KindOf(err) != KindInvalid {
		t.Errorf("whole: %v", err)
	}
	if _, err := c.Get(t.Context(), "Notes", "1"); KindOf(err) != KindUnavailable {
		t.Errorf("get: %v", err)
	}
}

func TestACutTextThatCannotBeRead(t *testing.T) {
	t.Parallel()
	var single []string
	no := saying(403, problemOf("NO_PERMISSION", "no"))
	c, _ := clientOf(t, cutting(map[string]http.HandlerFunc{"1": no, "3": no, "4": no, "6": no}, &single))
	if _, err := c.Read(t.Context(), "Notes", []string{"1"}); KindOf(err) != KindForbidden {
		t.Errorf("read: %v", err)
	}
	if found, err := c.Read(t.Context(), "Notes", []string{"2"}); err != nil || len(found) != 1 {
		t.Errorf("the others: %v, %v", found, err)
	}
	page, _ := c.List(t.Context(), "Notes", ListOptions{})
	if _, err := c.Whole(t.Context(), "Notes", page.Records); KindOf(err) != KindForbidden {
		t.Errorf("whole: %v", err)
	}
}

// Where many texts are cut at a time, as in a first sync of many notes, some are
// read whole and the others stay as the list has them: nobody is late for all of
// them, and nothing is asked for in vain.
func TestManyCutTextsDoNotHoldReadersUp(t *testing.T) {
	t.Parallel()
	var single atomic.Int64
	record := func(id string, n int) string {
		return `{"id":"` + id + `","Note_Content":"` + strings.Repeat("w", n) + `"}`
	}
	c, _ := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		if ids := r.URL.Query().Get("ids"); ids != "" {
			var rows []string
			for _, id := range strings.Split(ids, ",") {
				rows = append(rows, record(id, cutAt))
			}
			_, _ = io.WriteString(w, `{"data":[`+strings.Join(rows, ",")+`],"info":{"more_records":false}}`)
			return
		}
		single.Add(1)
		_, _ = io.WriteString(w, `{"data":[`+record(path.Base(r.URL.Path), 900)+`]}`)
	})
	var ids []string
	for i := range MaxIDs {
		ids = append(ids, fmt.Sprint(1000+i))
	}
	for round := range 2 {
		found, err := c.Read(t.Context(), "Notes", ids)
		if err != nil {
			t.Fatal(err)
		}
		whole := 0
		records := make([]Record, 0, len(found))
		for _, r := range found {
			records = append(records, r)
			if !mayBeCut(r) {
				whole++
			}
		}
		if len(found) != MaxIDs || whole != mostTexts {
			t.Errorf("%d records, %d of them whole, want %d and %d", len(found), whole, MaxIDs, mostTexts)
		}
		after, err := c.Whole(t.Context(), "Notes", records)
		if n := single.Load(); err != nil || len(after) != MaxIDs || n != int64(2*mostTexts*(round+1)) {
			t.Errorf("%d records, %d calls for single ones, %v", len(after), n, err)
		}
	}
	if n := c.texts.Load(); n != 0 {
		t.Errorf("%d texts are taken for being read", n)
	}
}
