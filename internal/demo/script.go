package demo

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// script is one run's traffic and what was answered.
type script struct {
	base string
	pool *pgxpool.Pool
	out  io.Writer

	sent     int
	statuses map[string]int // accepted, duplicate, or the code of a problem
	wrong    []string       // answers that were not what they should be
}

// step is one request and its expected answer.
type step struct {
	what   string
	body   string
	id     string // X-Zoho-Event-Id, "" for none
	forge  bool   // sign with another secret
	plain  bool   // do not sign: the body proves itself, or nothing does
	status int
	want   string // status of the answer, or code of the problem
}

const (
	accountID = "5725767000000499001"
	contactID = "5725767000000524157"
	dealID    = "5725767000000611003"
	taskID    = "5725767000000702008"
	noteID    = "5725767000000801004"
)

const ofAccount = `{"id":"` + accountID + `","name":"Example Ltd"}`

// play sends everything, and waits where a later step is about the effect of an
// earlier one.
func (s *script) play(ctx context.Context) error {
	s.statuses = map[string]int{}
	fmt.Fprintf(s.out, "The walk of one event: a contact is created.\n\n")
	first := step{
		what: "a contact is created", id: "demo-contact-1", status: 200, want: "accepted",
		body: `{"operation":"create","module":"Contacts","data":[{"id":"` + contactID + `","First_Name":"Jane","Last_Name":"Doe","Email":"jane@example.com","Account_Name":` + ofAccount + `}],"user":{"id":"5725767000000411001"}}`,
	}
	began := time.Now()
	if err := s.send(ctx, first); err != nil {
		return err
	}
	if err := s.printWalk(ctx, began); err != nil {
		return err
	}
	if err := s.addChannel(ctx); err != nil {
		return err
	}
	for _, scene := range scenes() {
		for _, step := range scene {
			if err := s.send(ctx, step); err != nil {
				return err
			}
		}
		if err := s.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// scenes are sent one after the other; each ends when all of it is in memory.
func scenes() [][]step {
	accept := func(what, id, body string) step {
		return step{what: what, id: id, body: body, status: 200, want: "accepted"}
	}
	update := func(module, id, fields string) string {
		return `{"operation":"update","module":"` + module + `","data":[{"id":"` + id + `",` + fields + `}]}`
	}
	related := []step{
		accept("the account is created", "demo-account-1", `{"operation":"create","module":"Accounts","data":[{"id":"`+accountID+`","Account_Name":"Example Ltd","Industry":"Manufacturing","Annual_Revenue":1200000}]}`),
		accept("a deal of it", "demo-deal-1", `{"operation":"insert","module":"Deals","data":{"id":"`+dealID+`","Deal_Name":"Spring order","Stage":"Qualification","Account_Name":`+ofAccount+`}}`),
		accept("a task of it", "demo-task-1", `{"event_type":"create","module":"Tasks","record_id":"`+taskID+`","record_data":{"Subject":"Call back","What_Id":{"id":"`+accountID+`","name":"Example Ltd","module":"Accounts"}},"user_id":"5725767000000411001"}`),
		accept("a note of it", "demo-note-1", `{"operation":"create","module":"Notes","data":[{"id":"`+noteID+`","Note_Title":"First call","Note_Content":"Friendly.","Parent_Id":{"id":"`+accountID+`","name":"Example Ltd","module":{"api_name":"Accounts"}}}]}`),
		{what: "the contact changes, told by Zoho itself", plain: true, status: 200, want: "accepted", body: `{"server_time":` + fmt.Sprint(time.Now().UnixMilli()) + `,"module":"Contacts","operation":"update","ids":["` + contactID + `"],"affected_fields":[{"` + contactID + `":["Email"]}],"affected_values":[{"record_id":"` + contactID + `","values":{"Email":"jane.doe@example.com"}}],"channel_id":"` + channelID + `","token":"` + channelToken + `","query_params":{},"resource_uri":"https://www.zohoapis.com/crm/v2/Contacts"}`},
	}
	var burst []step
	for i := range 10 {
		burst = append(burst, accept("a burst on the account", fmt.Sprintf("demo-burst-%d", i), update("Accounts", accountID, fmt.Sprintf(`"Phone":"+49 30 5550 %02d"`, i))))
	}
	deal := func(stage string) string { return update("Deals", dealID, `"Stage":"`+stage+`"`) }
	refused := []step{
		{what: "a repeat", id: "demo-account-1", body: related[0].body, status: 200, want: "duplicate"},
		{what: "a forged signature", id: "demo-forged", body: deal("Closed Won"), forge: true, status: 401, want: "unauthorized"},
		{what: "a malformed body", id: "demo-malformed", body: `{"operation":"update","module":"Deals","data":[{"id":`, status: 400, want: "invalid_json"},
	}
	return [][]step{
		related,
		burst,
		{accept("the deal: A", "", deal("Negotiation"))},
		{accept("the deal: B", "", deal("Closed Lost"))},
		{accept("the deal: A again", "", deal("Negotiation")), {what: "a redelivery of that", body: deal("Negotiation"), status: 200, want: "duplicate"}},
		{accept("the note is deleted", "demo-note-2", `{"operation":"delete","module":"Notes","data":[{"id":"`+noteID+`"}]}`)},
		refused,
	}
}

// send sends a step and notes its answer.
func (s *script) send(ctx context.Context, st step) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/webhooks/zoho", bytes.NewReader([]byte(st.body)))
	if err != nil {
		return fmt.Errorf("prepare %s: %w", st.what, err)
	}
	req.Header.Set("Content-Type", "application/json")
	if st.id != "" {
		req.Header.Set("X-Zoho-Event-Id", st.id)
	}
	if !st.plain {
		secret := senderSecret
		if st.forge {
			secret = "another secret"
		}
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(st.body))
		req.Header.Set("X-Zoho-Signature", hex.EncodeToString(mac.Sum(nil)))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("send %s: %w", st.what, err)
	}
	defer resp.Body.Close()
	var answer struct {
		Status any    `json:"status"`
		Code   string `json:"code"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil {
		return fmt.Errorf("read the answer to %s: %w", st.what, err)
	}
	got := answer.Code
	if got == "" {
		got = fmt.Sprint(answer.Status)
	}
	s.sent++
	s.statuses[got]++
	if resp.StatusCode != st.status || got != st.want {
		s.wrong = append(s.wrong, fmt.Sprintf("%s: answered %d %s, want %d %s", st.what, resp.StatusCode, got, st.status, st.want))
	}
	return nil
}

// addChannel makes the token of Zoho's own notifications known.
func (s *script) addChannel(ctx context.Context) error {
	hash := sha256.Sum256([]byte(channelToken))
	if _, err := s.pool.Exec(ctx, `WITH channel AS (INSERT INTO channels (channel_id) VALUES ($1) RETURNING channel_id)
		INSERT INTO channel_tokens (channel_id, token_hash) SELECT channel_id, $2 FROM channel`, channelID, hash[:]); err != nil {
		return fmt.Errorf("add a channel: %w", err)
	}
	return nil
}

// wait returns when every event is in memory.
func (s *script) wait(ctx context.Context) error {
	return s.until(ctx, "every event is processed", `SELECT NOT EXISTS (SELECT FROM events WHERE status IN ('received', 'routed', 'retrying'))`)
}

// until asks a yes-or-no question until the answer is yes.
func (s *script) until(ctx context.Context, what, query string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var yes bool
		if err := s.pool.QueryRow(ctx, query).Scan(&yes); err != nil {
			return fmt.Errorf("wait until %s: %w", what, err)
		}
		if yes {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited %s in vain until %s", patience, what)
		}
	}
}

// printWalk prints the first event's timeline as it grows, until its webhook
// arrived, or never will: what is wrong then, the table tells.
func (s *script) printWalk(ctx context.Context, began time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	printed := map[string]bool{}
	for {
		rows, err := s.pool.Query(ctx, `SELECT at, station, what, detail FROM event_timeline WHERE event_id = 1 ORDER BY at, step`)
		if err != nil {
			return fmt.Errorf("read the timeline: %w", err)
		}
		done := false
		for rows.Next() {
			var at time.Time
			var station, what, detail string
			if err := rows.Scan(&at, &station, &what, &detail); err != nil {
				return fmt.Errorf("read the timeline: %w", err)
			}
			done = done || what == "delivered" || what == "dead"
			if key := station + what; !printed[key] {
				printed[key] = true
				fmt.Fprintf(s.out, "  %8s  %-9s %-14s %s\n", "+"+at.Sub(began).Round(time.Millisecond).String(), station, what, detail)
			}
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("read the timeline: %w", err)
		}
		if done {
			fmt.Fprintln(s.out)
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waited %s in vain for the first webhook", patience)
		}
	}
}
