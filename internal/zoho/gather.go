package zoho

import (
	"context"
	"encoding/json"
	"errors"
	"math/bits"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// cutAt is how many characters of a rich text Zoho puts into a list.
const cutAt = 500

// Read reads records by their ids, with their whole texts; what is not in the
// answer is gone. An answer that leaves that open is an error of KindUnavailable,
// as an empty one is that is no 204. All concurrent Reads of a module share calls of at most MaxIDs
// ids: a Read that finds none of them under way is sent at once, others wait as
// Options.GatherLeast and GatherWait say. An id that several Reads ask for is
// asked for once, unless the call with it is already on its way: what it will
// answer may be older than the question.
//
// An error is one of any call that held one of the ids; of an id that Zoho
// refuses, or fails on while it answers for others, only who asked for it gets the
// error: one of KindInvalid without a Code, for the latter. When ctx ends the
// others that share the call do not notice.
func (c *Client) Read(ctx context.Context, module string, ids []string) (map[string]Record, error) {
	op := "read " + module
	ids = distinct(ids)
	if err := plain(op, append([]string{module}, ids...)...); err != nil {
		return nil, err
	}
	asks := c.gather.join(ctx, module, ids)
	found := make(map[string]Record, len(asks))
	var failed error
	for i, a := range asks {
		select {
		case <-a.done:
		case <-ctx.Done():
			c.gather.leave(module, asks[i:])
			return nil, &Error{Kind: KindUnavailable, Op: op, Err: ctx.Err()}
		}
		switch {
		case a.err != nil && failed == nil:
			failed = a.err
		case a.record != nil:
			found[a.id] = a.record
		}
	}
	if failed != nil {
		return nil, failed
	}
	return found, nil
}

// gatherer holds the Reads of all modules.
type gatherer struct {
	c *Client

	mu      sync.Mutex
	modules map[string]*gathering
}

// gathering is what is wanted of one module. Its fields are the gatherer's to lock.
type gathering struct {
	pending []*ask // not sent, oldest first
	calls   int    // under way, with the one that waits for its slot
	waiting bool   // one waits for its slot: it takes what is pending when it has it
	armed   bool   // a timer will look again
}

// ask is one id that somebody wants.
type ask struct {
	id      string
	ctx     context.Context // of who asked first, for its values only
	since   time.Time
	readers int    // who wait for it
	batch   *batch // nil until it is sent

	done   chan struct{} // closed when record and err stand
	record Record        // nil: there is none
	err    error
}

// batch is what is asked for in one call, or in its halves.
type batch struct {
	readers int // waits for any of its asks; without them it is not worth its call
	cancel  context.CancelFunc
}

func newGatherer(c *Client) *gatherer {
	return &gatherer{c: c, modules: map[string]*gathering{}}
}

// join returns an ask for each id: one that is pending, or a new one.
func (g *gatherer) join(ctx context.Context, module string, ids []string) []*ask {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.modules[module]
	if m == nil {
		m = &gathering{}
		g.modules[module] = m
	}
	pending := make(map[string]*ask, len(m.pending))
	for _, a := range m.pending {
		pending[a.id] = a
	}
	asks := make([]*ask, len(ids))
	for i, id := range ids {
		a := pending[id]
		if a == nil {
			a = &ask{id: id, ctx: context.WithoutCancel(ctx), since: g.c.now(), done: make(chan struct{})}
			m.pending = append(m.pending, a)
		}
		a.readers++
		asks[i] = a
	}
	g.start(module, m)
	return asks
}

// leave takes a reader from its asks: what nobody wants is not sent, and a call
// that nobody waits for ends.
func (g *gatherer) leave(module string, asks []*ask) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.modules[module]
	for _, a := range asks {
		a.readers--
		if a.batch == nil {
			if a.readers == 0 {
				m.pending = slices.DeleteFunc(m.pending, func(p *ask) bool { return p == a })
			}
			continue
		}
		if a.batch.readers--; a.batch.readers == 0 {
			a.batch.cancel()
		}
	}
}

// start sends a call when it is time for one, and otherwise sees to it that it
// will be. The caller holds mu.
func (g *gatherer) start(module string, m *gathering) {
	if len(m.pending) == 0 || m.waiting {
		return
	}
	left := g.c.o.GatherWait - g.c.now().Sub(m.pending[0].since)
	if m.calls == 0 || len(m.pending) >= g.c.o.GatherLeast || left <= 0 {
		m.waiting = true
		m.calls++
		go g.send(m.pending[0].ctx, module, m)
		return
	}
	if !m.armed {
		m.armed = true
		g.c.after(left, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			m.armed = false
			g.start(module, m)
		})
	}
}

// send makes one call of what is pending when it has its slot.
func (g *gatherer) send(ctx context.Context, module string, m *gathering) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var asks []*ask
	found, err := g.read(ctx, module, call{}, func() []*ask {
		asks = g.take(module, m, cancel)
		return asks
	})
	cut := g.settle(ctx, module, asks, found, err)

	g.mu.Lock()
	m.calls--
	g.start(module, m)
	g.mu.Unlock()

	g.complete(ctx, module, cut)
}

// take makes the oldest pending asks a batch; none when nobody waits any more.
func (g *gatherer) take(module string, m *gathering, cancel context.CancelFunc) []*ask {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(m.pending), MaxIDs)
	asks := slices.Clone(m.pending[:n])
	m.pending = slices.Clone(m.pending[n:])
	b := &batch{cancel: cancel}
	for _, a := range asks {
		a.batch = b
		b.readers += a.readers
	}
	m.waiting = false
	g.start(module, m)
	return asks
}

// read makes one call by ids, with the part and alive of q. asks is called when
// the call has its slot.
func (g *gatherer) read(ctx context.Context, module string, q call, asks func() []*ask) (map[string]Record, error) {
	var ids []string
	q.op, q.method, q.read, q.path = "read "+module, http.MethodGet, true, "/"+module
	q.query = url.Values{"fields": {g.c.fieldList(module)}, "per_page": {strconv.Itoa(MaxPage)}}
	q.prepare = func(query url.Values) bool {
		for _, a := range asks() {
			ids = append(ids, a.id)
		}
		query.Set("ids", strings.Join(ids, ","))
		return len(ids) > 0
	}
	s, err := g.c.do(ctx, q)
	if err != nil {
		return nil, err
	}
	records, err := s.byID()
	if err != nil {
		return nil, misshapen(q.op, err)
	}
	found := make(map[string]Record, len(records))
	for _, r := range records {
		found[r.ID()] = r
	}
	missing := func(id string) bool { return found[id] == nil }
	if s != nil && s.Info.more() && slices.ContainsFunc(ids, missing) {
		return nil, misshapen(q.op, errNotShown)
	}
	return found, nil
}

// settle gives asks their answer, and returns those whose record may have a cut
// text: they have none yet. A call that fails because of one of its records is
// made again in halves, so that only this one fails.
func (g *gatherer) settle(ctx context.Context, module string, asks []*ask, found map[string]Record, err error) (cut []*ask) {
	switch {
	case len(asks) > 0 && isInternal(err):
		return g.isolate(ctx, module, asks, err)
	case len(asks) > 1 && (isAboutIDs(err) || KindOf(err) == KindTooLarge):
		for _, half := range halves(asks) {
			found, err := g.read(ctx, module, call{}, func() []*ask { return half })
			cut = append(cut, g.settle(ctx, module, half, found, err)...)
		}
		return cut
	case len(asks) == 1 && notThere(err):
		err = nil
	}
	return give(asks, found, err)
}

func halves(asks []*ask) [][]*ask { return [][]*ask{asks[:len(asks)/2], asks[len(asks)/2:]} }

// give is the end of settle.
func give(asks []*ask, found map[string]Record, err error) (cut []*ask) {
	for _, a := range asks {
		a.record, a.err = found[a.id], err
		if mayBeCut(a.record) {
			cut = append(cut, a)
			continue
		}
		close(a.done)
	}
	return cut
}

// blindCalls is how many parts of a call are asked for while Zoho has answered
// none of them: the halves, and their halves.
const blindCalls = 6

// isolate looks for the record that a call met an INTERNAL_ERROR for, in smaller
// and smaller parts. Once Zoho has answered for one of them, and fails on a single
// record after that, the error is this record's own; while it answers for none it
// is everybody's. It makes two calls for every halving, and at most four, which
// finds two such records; who asked for more of them at a time has to come again.
func (g *gatherer) isolate(ctx context.Context, module string, asks []*ask, err error) (cut []*ask) {
	var open, failed [][]*ask // parts to ask for; single asks that failed
	if len(asks) == 1 {
		failed = [][]*ask{asks}
	} else {
		open = halves(asks)
	}
	answered := len(asks) == 1 && g.answers(ctx, module, asks[0].id)
	most := 4 * bits.Len(uint(len(asks)))
	for calls := 0; len(open) > 0 && calls < most && (answered || calls < blindCalls); calls++ {
		part := open[0]
		open = open[1:]
		found, err := g.read(ctx, module, call{part: true, alive: answered}, func() []*ask { return part })
		switch {
		case !isInternal(err):
			answered = answered || err == nil
			cut = append(cut, g.settle(ctx, module, part, found, err)...)
		case len(part) > 1:
			open = append(open, halves(part)...)
		case answered:
			cut = append(cut, give(part, nil, err)...)
		default:
			failed = append(failed, part)
		}
	}
	for _, part := range failed {
		found, err := map[string]Record(nil), err
		if answered {
			// It failed before Zoho was known to answer: that may have been an outage.
			found, err = g.read(ctx, module, call{part: true, alive: true}, func() []*ask { return part })
		}
		cut = append(cut, give(part, found, err)...)
	}
	for _, part := range open {
		give(part, nil, err)
	}
	return cut
}

// answers reports whether Zoho shows another record of the module than id: its
// oldest one, which costs a call.
func (g *gatherer) answers(ctx context.Context, module, id string) bool {
	s, err := g.c.do(ctx, call{
		op: "list " + module, method: http.MethodGet, read: true, part: true, path: "/" + module,
		query: url.Values{
			"fields": {g.c.fieldList(module)}, "per_page": {"1"}, "sort_by": {"id"}, "sort_order": {"asc"},
		},
	})
	if err != nil {
		return false
	}
	records, err := s.records()
	return err == nil && len(records) > 0 && records[0].ID() != id
}

// isAboutIDs reports whether a call by ids may have failed because of one of them.
func isAboutIDs(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindInvalid {
		return false
	}
	var param paramError
	if errors.As(e.Err, &param) && param != "ids" {
		return false
	}
	return param == "ids" || e.Code == "INVALID_DATA" || e.Code == "PATTERN_NOT_MATCHED"
}

// mostTexts is how many records at one time are read singly for their whole texts.
// Each costs a call, and readers wait for so long: were there more, all of them
// would be late at the same time, and all would ask again.
const mostTexts = 24

// reserveTexts returns how many of n records may be read singly now; as many are
// to be given back.
func (c *Client) reserveTexts(n int) int {
	for {
		taken := c.texts.Load()
		n = max(0, min(n, mostTexts-int(taken)))
		if c.texts.CompareAndSwap(taken, taken+int64(n)) {
			return n
		}
	}
}

// complete reads the records of asks singly, for their whole texts: as many as
// there is room for. The others keep what the list said.
func (g *gatherer) complete(ctx context.Context, module string, asks []*ask) {
	n := g.c.reserveTexts(len(asks))
	for _, a := range asks[n:] {
		close(a.done)
	}
	asks = asks[:n]
	var some errgroup.Group
	some.SetLimit(g.c.o.Concurrency)
	for _, a := range asks {
		some.Go(func() error {
			defer close(a.done)
			defer g.c.texts.Add(-1)
			a.record, a.err = g.c.get(ctx, module, a.id, true)
			return nil
		})
	}
	_ = some.Wait() // each ask has its own error
}

// mayBeCut reports whether a text of r has the length at which a list cuts it.
func mayBeCut(r Record) bool {
	for _, raw := range r {
		if len(raw) < cutAt || raw[0] != '"' {
			continue
		}
		var text string
		if json.Unmarshal(raw, &text) == nil && MayBeCut(text) {
			return true
		}
	}
	return false
}
