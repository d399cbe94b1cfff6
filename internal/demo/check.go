package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// line is one row of the table.
type line struct {
	what      string
	want, got string
}

func (l line) ok() bool { return l.want == l.got }

// check waits until everything has arrived, prints the table, and returns
// ErrDiffers when a line of it is wrong.
func (s *script) check(ctx context.Context, r *receiver) error {
	// The last delivery is on record a moment before its job has closed the lane.
	if err := s.until(ctx, "every webhook is delivered", `
		SELECT NOT EXISTS (SELECT FROM outbox WHERE relayed_at IS NULL)
		   AND NOT EXISTS (SELECT FROM deliveries WHERE status IN ('pending', 'retrying'))
		   AND NOT EXISTS (SELECT FROM river_job WHERE state IN ('available', 'running'))`); err != nil {
		return err
	}
	lines := s.answers()
	for _, table := range []func(context.Context, *receiver) ([]line, error){s.stored, s.remembered, s.delivered} {
		more, err := table(ctx, r)
		if err != nil {
			return err
		}
		lines = append(lines, more...)
	}
	return s.print(lines)
}

func (s *script) print(lines []line) error {
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tSHOULD BE\tIS\t")
	differs := 0
	for _, l := range lines {
		mark := "ok"
		if !l.ok() {
			mark = "DIFFERS"
			differs++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", l.what, l.want, l.got, mark)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, wrong := range s.wrong {
		fmt.Fprintln(s.out, wrong)
	}
	if differs > 0 || len(s.wrong) > 0 {
		return fmt.Errorf("%w: %d lines, %d answers", ErrDiffers, differs, len(s.wrong))
	}
	return nil
}

// expected counts what the script should be answered.
func expected() (sent int, statuses map[string]int) {
	statuses = map[string]int{"accepted": 1}
	sent = 1
	for _, scene := range scenes() {
		for _, st := range scene {
			statuses[st.want]++
			sent++
		}
	}
	return sent, statuses
}

func (s *script) answers() []line {
	sent, statuses := expected()
	lines := []line{number("requests sent", sent, s.sent)}
	for _, status := range []string{"accepted", "duplicate", "unauthorized", "invalid_json"} {
		lines = append(lines, number("  answered "+status, statuses[status], s.statuses[status]))
	}
	return lines
}

func (s *script) stored(ctx context.Context, _ *receiver) ([]line, error) {
	_, statuses := expected()
	accepted := statuses["accepted"]
	return s.counts(ctx, []counted{
		{"events stored", accepted, `SELECT count(*) FROM events`},
		{"  processed", accepted, `SELECT count(*) FROM events WHERE status = 'processed'`},
		{"  dead", 0, `SELECT count(*) FROM events WHERE status = 'dead'`},
		{"jobs left over", 0, `SELECT count(*) FROM river_job WHERE state NOT IN ('completed')`},
	})
}

func (s *script) remembered(ctx context.Context, _ *receiver) ([]line, error) {
	lines, err := s.counts(ctx, []counted{{"memories", 4, `SELECT count(*) FROM memories WHERE user_id = 'zoho:` + accountID + `'`}})
	if err != nil {
		return nil, err
	}
	for _, m := range []struct{ what, module, want string }{
		{"  the account, after a burst of 10", "Accounts", "Phone: +49 30 5550 09"},
		{"  the contact, after its change", "Contacts", "Email: jane.doe@example.com"},
		{"  the deal, after A, B, A", "Deals", "Stage: Negotiation"},
		{"  the task", "Tasks", "Subject: Call back"},
	} {
		var content string
		err := s.pool.QueryRow(ctx, `SELECT coalesce((SELECT content FROM memories WHERE module = $1), '')`, m.module).Scan(&content)
		if err != nil {
			return nil, fmt.Errorf("read a memory: %w", err)
		}
		got := "something else"
		if slices.Contains(strings.Split(content, "\n"), m.want) {
			got = m.want
		}
		lines = append(lines, line{m.what, m.want, got})
	}
	return lines, nil
}

func (s *script) delivered(ctx context.Context, r *receiver) ([]line, error) {
	var changes, attempts int
	err := s.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM memory_history), (SELECT count(*) FROM delivery_attempts)`).Scan(&changes, &attempts)
	if err != nil {
		return nil, fmt.Errorf("count changes: %w", err)
	}
	lines, err := s.counts(ctx, []counted{
		{"changes told", changes, `SELECT count(*) FROM outbox`},
		{"  delivered", changes, `SELECT count(*) FROM deliveries WHERE status = 'delivered'`},
		{"  attempts, the receiver failing twice", changes + failFirst, `SELECT count(*) FROM delivery_attempts`},
	})
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	lines = append(lines,
		number("receiver: requests", attempts, r.requests),
		number("  with a wrong signature", 0, r.forged),
		number("  different webhooks", changes, len(r.ids)),
	)
	same, err := s.sameAs(ctx, r)
	if err != nil {
		return nil, err
	}
	return append(lines, same), nil
}

// sameAs compares what the receiver remembers with what is remembered here.
func (s *script) sameAs(ctx context.Context, r *receiver) (line, error) {
	l := line{what: "receiver: its copy of the memory", want: "the same", got: "the same"}
	rows, err := s.pool.Query(ctx, `SELECT id::text, content FROM memories`)
	if err != nil {
		return l, fmt.Errorf("read memories: %w", err)
	}
	defer rows.Close()
	here := 0
	for rows.Next() {
		var id, content string
		if err := rows.Scan(&id, &content); err != nil {
			return l, fmt.Errorf("read memories: %w", err)
		}
		here++
		if there := r.memories[id]; there.gone || there.content != content {
			l.got = "another"
		}
	}
	there := 0
	for _, m := range r.memories {
		if !m.gone {
			there++
		}
	}
	if here != there {
		l.got = fmt.Sprintf("%d memories for %d", there, here)
	}
	return l, rows.Err()
}

type counted struct {
	what  string
	want  int
	query string
}

func (s *script) counts(ctx context.Context, all []counted) ([]line, error) {
	lines := make([]line, len(all))
	for i, c := range all {
		var got int
		if err := s.pool.QueryRow(ctx, c.query).Scan(&got); err != nil {
			return nil, fmt.Errorf("count %s: %w", strings.TrimSpace(c.what), err)
		}
		lines[i] = number(c.what, c.want, got)
	}
	return lines, nil
}

func number(what string, want, got int) line {
	return line{what: what, want: fmt.Sprint(want), got: fmt.Sprint(got)}
}
