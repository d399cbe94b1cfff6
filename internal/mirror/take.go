package mirror

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/memory"
)

// taken is what a lane's job has to do now.
type taken struct {
	mine     bool      // false: the lane names another job, or is gone
	notYet   time.Time // not zero: the lane is not due before
	now      time.Time // the database's
	upTo     int64     // the lane's wanted when its work was taken
	userID   string
	remoteID string // of the copy; "": none is known
	// begun says that an earlier attempt may have made the copy: one looks first.
	begun    bool
	checksum []byte       // of what the copy holds; nil: nothing is known of it
	item     *memory.Item // the memory as it is now; nil: it is gone
	sum      []byte       // its checksum
	err      error        // why it cannot be read
}

// same reports whether there is nothing to carry.
func (t taken) same() bool {
	if t.item == nil {
		return t.remoteID == "" && !t.begun
	}
	return t.remoteID != "" && slices.Equal(t.checksum, t.sum)
}

// take is the transaction in which lanes' jobs take what is due: from here on they
// answer for it. The memories are read behind the locks, so that they are at least
// as new as what is wanted of the lanes. A copy that is about to be made or changed
// is written down here, before anybody is called.
func (m *Mirror) take(ctx context.Context, tx pgx.Tx, _ int, units []claim) ([]group.Answer[taken], error) {
	q := db.New(tx)
	locked, err := m.lock(ctx, q, idsOf(units, func(u claim) uuid.UUID { return u.memoryID }))
	if err != nil {
		return nil, err
	}
	answers := make([]group.Answer[taken], len(units))
	due := map[uuid.UUID]bool{}
	for i, u := range units {
		l, ok := locked.rows[u.memoryID]
		switch {
		case locked.held[u.memoryID]:
			answers[i].Err = group.ErrHeld
		case !ok || l.JobID == nil || *l.JobID != u.jobID:
		case l.DueAt != nil && l.DueAt.After(l.Now):
			answers[i].Value = taken{mine: true, now: l.Now, notYet: *l.DueAt}
		default:
			due[u.memoryID] = true
			answers[i].Value = taken{
				mine: true, now: l.Now, upTo: l.Wanted, userID: l.UserID, begun: l.AddingSince != nil, checksum: l.Checksum,
			}
			if l.RemoteID != nil {
				answers[i].Value.remoteID = *l.RemoteID
			}
		}
	}
	if len(due) == 0 {
		return answers, nil
	}
	ids := sortedIDs(due)
	items, err := q.ListMemoriesToCopy(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("list memories to copy: %w", err)
	}
	read := make(map[uuid.UUID]db.MemoriesToCopy, len(items))
	for _, item := range items {
		read[item.ID] = item
	}
	p := db.TakeMirrorsParams{Backend: m.o.Backend, MemoryIds: ids, Adding: make([]bool, len(ids)), Changing: make([]bool, len(ids))}
	for i, u := range units {
		v := &answers[i].Value
		if !v.mine || !v.notYet.IsZero() {
			continue
		}
		if item, ok := read[u.memoryID]; ok {
			v.item, v.err = itemOf(item)
			v.sum = item.Checksum
		}
		at, _ := slices.BinarySearchFunc(ids, u.memoryID, compareIDs)
		p.Adding[at] = v.item != nil && v.remoteID == ""
		p.Changing[at] = v.remoteID != "" && !v.same()
	}
	if err := q.TakeMirrors(ctx, p); err != nil {
		return nil, fmt.Errorf("take mirrors: %w", err)
	}
	return answers, nil
}

func itemOf(row db.MemoriesToCopy) (*memory.Item, error) {
	item := &memory.Item{
		ID: row.ID, UserID: row.UserID, Kind: row.Kind, Content: row.Content, ExpiresAt: row.ExpiresAt, Checksum: hex.EncodeToString(row.Checksum),
	}
	var err error
	if item.Metadata, err = memory.ReadMetadata(row.Metadata); err != nil {
		return item, fmt.Errorf("memory %s: %w", row.ID, err)
	}
	return item, nil
}

// lanes are rows of mirrors of which some may be held by other transactions.
type lanes struct {
	rows map[uuid.UUID]db.LockMirrorsRow
	held map[uuid.UUID]bool
}

// lock locks lanes, and tells those that others hold from those that are gone: a
// lane ends with its copy.
func (m *Mirror) lock(ctx context.Context, q *db.Queries, ids []uuid.UUID) (lanes, error) {
	rows, err := q.LockMirrors(ctx, db.LockMirrorsParams{Backend: m.o.Backend, MemoryIds: ids})
	if err != nil {
		return lanes{}, fmt.Errorf("lock mirrors: %w", err)
	}
	all := lanes{rows: make(map[uuid.UUID]db.LockMirrorsRow, len(rows)), held: map[uuid.UUID]bool{}}
	for _, r := range rows {
		all.rows[r.MemoryID] = r
	}
	missing := slices.DeleteFunc(slices.Clone(ids), func(id uuid.UUID) bool { _, ok := all.rows[id]; return ok })
	if len(missing) == 0 {
		return all, nil
	}
	there, err := q.ListMirrorIDs(ctx, db.ListMirrorIDsParams{Backend: m.o.Backend, MemoryIds: missing})
	if err != nil {
		return lanes{}, fmt.Errorf("list mirrors: %w", err)
	}
	for _, id := range there {
		all.held[id] = true
	}
	return all, nil
}

func idsOf[T any](units []T, of func(T) uuid.UUID) []uuid.UUID {
	ids := make([]uuid.UUID, len(units))
	for i, u := range units {
		ids[i] = of(u)
	}
	slices.SortFunc(ids, compareIDs)
	return slices.Compact(ids)
}

func sortedIDs(set map[uuid.UUID]bool) []uuid.UUID {
	ids := make([]uuid.UUID, 0, len(set))
	for id := range set {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}

func compareIDs(a, b uuid.UUID) int { return strings.Compare(string(a[:]), string(b[:])) }
