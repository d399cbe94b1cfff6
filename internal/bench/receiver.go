package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// schedule is what Standard Webhooks recommends: the endpoint's default.
const schedule = `{5s,5min,30min,2h,5h,10h,14h,20h,24h}`

// receiver is whom webhooks go to. It answers 204, hangs, or says that it is away. It
// reads no more of HTTP than it needs, so as to take little of the processors.
type receiver struct {
	ln    net.Listener
	url   string
	away  atomic.Bool
	hangs bool
	free  chan struct{} // closed: what hangs is answered
	done  sync.WaitGroup

	mu      sync.Mutex
	open    map[net.Conn]bool
	arrived map[string]time.Time // by webhook-id
	marked  map[int64]time.Time  // by the number behind mark, the first time
	perUser map[string][]string  // webhook-ids in the order of arrival
	last    time.Time
	told    chan struct{} // something has arrived
}

func newReceiver(ctx context.Context, hangs bool) (*receiver, error) {
	var listen net.ListenConfig
	ln, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	r := &receiver{
		ln: ln, url: "http://" + ln.Addr().String() + "/", hangs: hangs, free: make(chan struct{}), open: map[net.Conn]bool{},
		arrived: map[string]time.Time{}, marked: map[int64]time.Time{}, perUser: map[string][]string{}, told: make(chan struct{}, 1),
	}
	r.done.Go(r.accept)
	return r, nil
}

func (r *receiver) accept() {
	for {
		conn, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.open[conn] = true
		r.mu.Unlock()
		r.done.Go(func() {
			r.answerAll(conn)
			r.mu.Lock()
			delete(r.open, conn)
			r.mu.Unlock()
			_ = conn.Close()
		})
	}
}

// close ends all connections, and what hangs.
func (r *receiver) close() {
	close(r.free)
	_ = r.ln.Close()
	r.mu.Lock()
	for conn := range r.open {
		_ = conn.Close()
	}
	r.mu.Unlock()
	r.done.Wait()
}

func (r *receiver) answerAll(conn net.Conn) {
	in := bufio.NewReaderSize(conn, 8192)
	var body []byte
	for {
		var id string
		length, err := readHead(in, func([]byte) error { return nil }, func(name, value []byte) {
			if bytes.EqualFold(name, []byte("webhook-id")) {
				id = string(value)
			}
		})
		if err != nil {
			return // the sender has gone
		}
		body = append(body[:0], make([]byte, length)...)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		answer := "HTTP/1.1 204 No Content\r\n\r\n"
		switch {
		case r.hangs:
			<-r.free
			return
		case r.away.Load():
			answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
		case id != "":
			r.take(id, body)
		}
		if _, err := conn.Write([]byte(answer)); err != nil {
			return
		}
	}
}

func (r *receiver) take(id string, body []byte) {
	now := time.Now()
	n, isMarked := numberOf(body)
	user := userOf(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, before := r.arrived[id]; before {
		return
	}
	r.arrived[id], r.last = now, now
	r.perUser[user] = append(r.perUser[user], id)
	if _, before := r.marked[n]; isMarked && !before {
		r.marked[n] = now
	}
	select {
	case r.told <- struct{}{}:
	default:
	}
}

// numberOf finds the number behind the first mark.
func numberOf(body []byte) (int64, bool) {
	_, rest, found := bytes.Cut(body, []byte(mark))
	if !found {
		return 0, false
	}
	end := bytes.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' })
	if end < 0 {
		end = len(rest)
	}
	n, err := strconv.ParseInt(string(rest[:end]), 10, 64)
	return n, err == nil
}

// userOf finds the user_id of a webhook, which stands before anything else that could
// look like it. None of those that are made here has anything to escape.
func userOf(body []byte) string {
	_, rest, _ := bytes.Cut(body, []byte(`"user_id":"`))
	user, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(user)
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.arrived)
}

func (r *receiver) lastAt() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// errStuck is returned when webhooks have stopped to arrive.
var errStuck = errors.New("nothing has arrived for two minutes")

// wait waits until so many different webhooks have arrived.
func (r *receiver) wait(ctx context.Context, n int) error {
	for {
		got := r.count()
		if got >= n {
			return nil
		}
		select {
		case <-r.told:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d webhooks arrived: %w", got, n, ctx.Err())
		case <-time.After(2 * time.Minute):
			return fmt.Errorf("%d of %d webhooks arrived: %w", got, n, errStuck)
		}
	}
}

// since is how long after the requests were due, in milliseconds and sorted, what they
// brought arrived. It is an error when something is missing.
func (r *receiver) since(l loaded, first int64) ([]float64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return since(l, first, r.marked)
}

// told starts the program with so many endpoints that all lead to one receiver.
func (b *bench) told(ctx context.Context, endpoints int) (*receiver, *program, error) {
	url, err := b.database(ctx)
	if err != nil {
		return nil, nil, err
	}
	return b.toldOn(ctx, url, endpoints)
}

func (b *bench) toldOn(ctx context.Context, url string, endpoints int) (*receiver, *program, error) {
	r, err := newReceiver(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	for range endpoints {
		if err := addEndpointTo(ctx, url, r.url); err != nil {
			r.close()
			return nil, nil, err
		}
	}
	p, err := b.serveOn(ctx, url, toMyself())
	if err != nil {
		r.close()
		return nil, nil, err
	}
	return r, p, nil
}

func addEndpointTo(ctx context.Context, url, receiver string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return addEndpoint(ctx, conn, receiver, false)
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
