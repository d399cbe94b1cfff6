package process

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/group"
)

// wholeRead is the read of a whole account: everything that hangs on it, a page
// with each run of its lane, so that one with 50,000 contacts neither takes a
// worker for long nor fills memory.
type wholeRead struct {
	since  time.Time // when it began, by the database's clock
	cursor string
	done   bool
	unseen []Event // with the check: what we know and no list has shown
}

// maxUnseen is how many records the check of a whole read looks at with one run.
const maxUnseen = 100

// isAccount reports whether a lane is that of an account, and not of a record
// whose account is not known.
func isAccount(id string) bool { return !strings.HasPrefix(id, "record:") }

func (s wholeState) underWay() *wholeRead {
	if s.since.IsZero() {
		return nil
	}
	return &wholeRead{since: s.since, cursor: s.cursor}
}

// planWhole begins the read of whole accounts at first sight, and looks up what
// those near their end have not shown. First sight is a webhook, or a record
// that moved: what reconciliation brings, it brings whole by itself, and so does
// a full sync that is under way, for far fewer calls.
func (s *Syncer) planWhole(ctx context.Context, q *db.Queries, units []claim, lanes map[string]*accountLane, answers []group.Answer[taken]) error {
	full, err := q.ReadsEverything(ctx)
	if err != nil {
		return fmt.Errorf("look for a full sync: %w", err)
	}
	for i, u := range units {
		v := &answers[i].Value
		if !v.mine || !v.notYet.IsZero() || !isAccount(u.accountID) {
			continue
		}
		state := lanes[u.accountID].whole
		v.whole = state.underWay()
		if v.whole == nil && !full && state.at.IsZero() && firstSight(v.events) {
			v.whole = &wholeRead{since: v.now}
		}
		if v.whole == nil || !v.whole.checks() {
			continue
		}
		if err := v.whole.look(ctx, q, u.accountID, v.now); err != nil {
			return err
		}
	}
	return nil
}

func firstSight(events []Event) bool {
	for _, e := range events {
		if e.Source != SourceReconcile {
			return true
		}
	}
	return len(events) == 0
}

func (w *wholeRead) checks() bool { return strings.HasPrefix(w.cursor, stepCheck) }

// look finds the next records that the read has not shown.
func (w *wholeRead) look(ctx context.Context, q *db.Queries, accountID string, now time.Time) error {
	_, after, _ := strings.Cut(w.cursor, ":")
	module, id, _ := strings.Cut(after, ":")
	rows, err := q.ListRecordsNotSeen(ctx, db.ListRecordsNotSeenParams{
		AccountID: accountID, Since: &w.since, AfterModule: module, AfterID: id, MaxRecords: maxUnseen,
	})
	if err != nil {
		return fmt.Errorf("list records not seen: %w", err)
	}
	w.unseen = nil
	for _, r := range rows {
		w.unseen = append(w.unseen, Event{AccountID: accountID, Module: r.Module, RecordID: r.RecordID, Operation: "update", Record: []byte("{}"), ReceivedAt: now, TakenAt: now})
	}
	return nil
}

// readWhole gets what is next of a whole account: a page, or what is to be checked.
// The cursor then stands behind it.
func (s *Syncer) readWhole(ctx context.Context, accountID string, w *wholeRead, now time.Time) ([]Observation, error) {
	if !w.checks() {
		page, err := s.reads.whole(ctx, now, accountID, w.cursor)
		if err != nil {
			return nil, err
		}
		w.cursor, w.done = page.next, page.next == ""
		return page.observations, nil
	}
	if len(w.unseen) == 0 {
		w.done = true
		return nil, nil
	}
	observations, err := s.reads.Observe(ctx, w.unseen)
	if err != nil {
		return nil, err
	}
	last := w.unseen[len(w.unseen)-1]
	w.cursor, w.done = stepCheck+":"+last.Module+":"+last.RecordID, len(w.unseen) < maxUnseen
	return observations, nil
}

// wholeState is what an account's row says of reading it whole.
type wholeState struct {
	at     time.Time // when the read began that ended last; zero: never
	since  time.Time // when the one began that is under way; zero: none is
	cursor string
}

// after is the state when w was read besides; nil: nothing was. A read that was
// asked for meanwhile begins anew, whatever w was.
func (s wholeState) after(w *wholeRead) wholeState {
	switch {
	case w == nil, !s.since.IsZero() && !s.since.Equal(w.since):
		return s
	case w.done:
		return wholeState{at: w.since}
	default:
		return wholeState{at: s.at, since: w.since, cursor: w.cursor}
	}
}
