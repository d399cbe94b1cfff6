package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	deliverBacklog  = 20_000 // webhooks that wait when the throughput is measured
	healthy         = 50     // endpoints beside the one that hangs
	healthyRate     = 20     // webhooks a second, each to all endpoints
	healthyTime     = 20 * time.Second
	outageRate      = 200 // webhooks a second
	outageUsers     = 20
	deliveriesOfOne = "deliveries/s"
	// schedule is what Standard Webhooks recommends: the endpoint's default.
	schedule = `{5s,5min,30min,2h,5h,10h,14h,20h,24h}`
)

// receiver is whom webhooks go to. It answers 204, hangs, or says that it is away.
type receiver struct {
	server *http.Server
	url    string
	away   atomic.Bool
	hangs  bool
	free   chan struct{} // closed: what hangs is answered

	mu       sync.Mutex
	arrived  map[string]time.Time // by webhook-id
	perUser  map[string][]string  // webhook-ids in the order of arrival
	requests int
	told     chan struct{} // something has arrived
}

func newReceiver(ctx context.Context, hangs bool) (*receiver, error) {
	var listen net.ListenConfig
	ln, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	r := &receiver{
		url: "http://" + ln.Addr().String() + "/", hangs: hangs, free: make(chan struct{}),
		arrived: map[string]time.Time{}, perUser: map[string][]string{}, told: make(chan struct{}, 1),
	}
	r.server = &http.Server{Handler: http.HandlerFunc(r.answer), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = r.server.Serve(ln) }()
	return r, nil
}

func (r *receiver) close() {
	close(r.free)
	_ = r.server.Close()
}

func (r *receiver) answer(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	if r.hangs {
		select {
		case <-r.free:
		case <-req.Context().Done():
		}
		return
	}
	if r.away.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.take(req.Header.Get("webhook-id"), body)
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) take(id string, body []byte) {
	var envelope struct {
		UserID string `json:"user_id"`
	}
	if id != "" && json.Unmarshal(body, &envelope) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	if _, before := r.arrived[id]; !before && id != "" {
		r.arrived[id] = time.Now()
		r.perUser[envelope.UserID] = append(r.perUser[envelope.UserID], id)
	}
	select {
	case r.told <- struct{}{}:
	default:
	}
}

// wait waits until so many different webhooks have arrived.
func (r *receiver) wait(ctx context.Context, n int) error {
	for {
		r.mu.Lock()
		got := len(r.arrived)
		r.mu.Unlock()
		if got >= n {
			return nil
		}
		select {
		case <-r.told:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d webhooks arrived: %w", got, n, ctx.Err())
		}
	}
}

// deliveries measures what goes out.
func (b *bench) deliveries(ctx context.Context) ([]row, error) {
	var rows []row
	for _, measure := range []func(context.Context) ([]row, error){b.receiverLimit, b.throughput, b.isolation} {
		r, err := measure(ctx)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

// sample is a webhook as it is usual: 330 bytes.
func sample(user, id string) []byte {
	return fmt.Appendf(nil, `{"event":"memory_added","user_id":%q,"data":{"result":{"id":%q,"content":"Contact Jane Doe of Example\nEmail: jane@example.com\nTitle: Head of Purchasing","metadata":{"module":"Contacts","source":"zoho"}}},"timestamp":"2026-11-22T05:03:44.621429969Z","source":"memrelay","bot_version":"1.0.0","request_id":%q}`, user, id, id)
}

// receiverLimit is what the receiver takes from wrk, which does nothing but send.
func (b *bench) receiverLimit(ctx context.Context) ([]row, error) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		fmt.Fprintln(os.Stderr, "wrk is not installed: the receiver's own limit is left out")
		return nil, nil
	}
	r, err := newReceiver(ctx, false)
	if err != nil {
		return nil, err
	}
	defer r.close()
	script := filepath.Join(b.tmp, "post.lua")
	text := fmt.Sprintf("wrk.method = \"POST\"\nwrk.body = %q\nwrk.headers[\"Content-Type\"] = \"application/json\"\n", sample("u", uuid.NewString()))
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write the script: %w", err)
	}
	said, err := exec.CommandContext(ctx, wrk, "-t", "1", "-c", "32", "-d", fmt.Sprintf("%ds", b.o.seconds), "-s", script, r.url).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("wrk: %w\n%s", err, said)
	}
	m := regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`).FindSubmatch(said)
	if m == nil {
		return nil, fmt.Errorf("wrk said no rate:\n%s", said)
	}
	rate, err := strconv.ParseFloat(string(m[1]), 64)
	return []row{{"receiver's own limit, by wrk at 32 connections", "requests/s", rate}}, err
}

// throughput is how fast a backlog goes to one endpoint, relay included.
func (b *bench) throughput(ctx context.Context) ([]row, error) {
	r, err := newReceiver(ctx, false)
	if err != nil {
		return nil, err
	}
	defer r.close()
	p, err := b.serveWith(ctx, []string{"OUTBOUND_ALLOW_PRIVATE=127.0.0.0/8"})
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect: %w", err), p.stop())
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := addEndpoint(ctx, conn, r.url, false); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	began := time.Now()
	_, err = tellAll(ctx, conn, deliverBacklog, 20)
	if err == nil {
		err = r.wait(ctx, deliverBacklog)
	}
	if err := errors.Join(err, p.stop()); err != nil {
		return nil, err
	}
	took := r.last().Sub(began)
	return []row{
		{fmt.Sprintf("%d webhooks to one endpoint, from the outbox's commit on", deliverBacklog), deliveriesOfOne, deliverBacklog / took.Seconds()},
		{"memory, while webhooks are delivered", "MB", p.peak},
	}, nil
}

func (r *receiver) last() (last time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.arrived {
		if at.After(last) {
			last = at
		}
	}
	return last
}

func addEndpoint(ctx context.Context, conn *pgx.Conn, url string, ordered bool) error {
	id := uuid.Must(uuid.NewV7())
	_, err := conn.Exec(ctx, `INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule, ordered) VALUES ($1, $2, $3, '{memory_added}', '30s', $4::text::interval[], $5)`,
		id, id.String(), url, schedule, ordered)
	if err != nil {
		return fmt.Errorf("insert an endpoint: %w", err)
	}
	return nil
}

// tellAll writes n webhooks of so many users into the outbox, in one transaction with
// the job that relays them, and returns their ids in their order.
func tellAll(ctx context.Context, conn *pgx.Conn, n, users int) ([]string, error) {
	ids := make([]string, n)
	names := make([]string, n)
	payloads := make([][]byte, n)
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7()).String()
		names[i] = fmt.Sprint("user-", i%users)
		payloads[i] = sample(names[i], ids[i])
	}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO outbox (id, event, user_id, payload)
			SELECT id::uuid, 'memory_added', user_id, payload FROM unnest($1::text[], $2::text[], $3::bytea[]) WITH ORDINALITY AS n (id, user_id, payload, place) ORDER BY place`,
			ids, names, payloads)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO river_job (args, kind, max_attempts, queue) VALUES ('{}', 'relay', 10000, 'relay')`)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("write webhooks: %w", err)
	}
	return ids, nil
}

// isolation is how long webhooks take to endpoints that are well, without and with one
// beside them that never answers.
func (b *bench) isolation(ctx context.Context) ([]row, error) {
	var rows []row
	for _, hanging := range []bool{false, true} {
		took, err := b.besides(ctx, hanging)
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("%d endpoints, %d webhooks a second to each", healthy, healthyRate)
		if hanging {
			name += ", one more that hangs 30 s on every call"
		}
		ms := func(share float64) float64 {
			return float64(took[int(share*float64(len(took)-1))].Microseconds()) / 1000
		}
		rows = append(rows, row{name + ": p50", "ms", ms(0.5)}, row{name + ": p99", "ms", ms(0.99)})
	}
	return rows, nil
}

// besides returns how long webhooks took to those endpoints that are well, sorted.
func (b *bench) besides(ctx context.Context, hanging bool) (took []time.Duration, err error) {
	p, err := b.serveWith(ctx, []string{"OUTBOUND_ALLOW_PRIVATE=127.0.0.0/8"})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	all := make([]*receiver, healthy)
	for i := range all {
		if all[i], err = newReceiver(ctx, false); err != nil {
			return nil, err
		}
		defer all[i].close()
		if err := addEndpoint(ctx, conn, all[i].url, false); err != nil {
			return nil, err
		}
	}
	if hanging {
		h, err := newReceiver(ctx, true)
		if err != nil {
			return nil, err
		}
		defer h.close()
		if err := addEndpoint(ctx, conn, h.url, false); err != nil {
			return nil, err
		}
	}
	told := map[string]time.Time{}
	tick := time.NewTicker(time.Second / healthyRate)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < healthyTime; <-tick.C {
		at := time.Now()
		ids, err := tellAll(ctx, conn, 1, 1)
		if err != nil {
			return nil, err
		}
		told[ids[0]] = at
	}
	for _, r := range all {
		if err := r.wait(ctx, len(told)); err != nil {
			return nil, err
		}
		for id, at := range r.arrived {
			took = append(took, at.Sub(told[id]))
		}
	}
	slices.Sort(took)
	return took, nil
}

// outage is a receiver that is away for a while, during which webhooks go on: how
// soon all of them have arrived once it is back. It is an error when one is missing,
// or not in the order of its user.
func (b *bench) outage(ctx context.Context) (rows []row, err error) {
	r, err := newReceiver(ctx, false)
	if err != nil {
		return nil, err
	}
	defer r.close()
	p, err := b.serveWith(ctx, []string{"OUTBOUND_ALLOW_PRIVATE=127.0.0.0/8"})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := addEndpoint(ctx, conn, r.url, true); err != nil {
		return nil, err
	}
	const before = 5 * time.Second
	want := map[string][]string{}
	total := 0
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < before+b.o.outage; <-tick.C {
		r.away.Store(time.Since(began) > before)
		ids, err := tellAll(ctx, conn, outageRate/10, outageUsers)
		if err != nil {
			return nil, err
		}
		for i, id := range ids {
			user := fmt.Sprint("user-", i%outageUsers)
			want[user] = append(want[user], id)
		}
		total += len(ids)
	}
	r.away.Store(false)
	back := time.Now()
	waited := len(r.arrived)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := r.wait(ctx, total); err != nil {
		return nil, err
	}
	for user, ids := range want {
		if !slices.Equal(ids, r.perUser[user]) {
			return nil, fmt.Errorf("the webhooks of %s arrived in another order than they were told", user)
		}
	}
	var tried float64
	if err := conn.QueryRow(ctx, `SELECT count(*)::float8 FROM delivery_attempts WHERE status_code = 503`).Scan(&tried); err != nil {
		return nil, fmt.Errorf("count attempts: %w", err)
	}
	name := fmt.Sprintf("receiver away for %s at %d webhooks a second, ordered by user", b.o.outage, outageRate)
	return []row{
		{name + ": told meanwhile", "webhooks", float64(total - waited)},
		{name + ": attempts in vain", "requests", tried},
		{name + ": all arrived after its return", "s", r.last().Sub(back).Seconds()},
		{name + ": missing, or out of order", "webhooks", 0},
	}, nil
}
