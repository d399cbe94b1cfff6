package mirror

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/memory"
)

const (
	// resyncRows is how many lanes one statement of a resync looks at or wakes.
	resyncRows = 500
	// listTries is how often a page is asked for before a resync gives up.
	listTries = 3
)

// errRepeats ends a resync: such a list has no end.
var errRepeats = errors.New("the other system lists the same page again and again")

// ResyncOptions say what to hold against each other.
type ResyncOptions struct {
	UserID string // "": of all users
	DryRun bool   // change nothing, here or there
	// Actor is written to the audit log with what was found; of a dry run nothing is.
	Actor string
	// Progress is told how far it is; nil: nobody is.
	Progress func(Report)
}

// Report is what a resync found. What it found it has mended, or has made the lanes
// due that mend it, unless it was a dry run.
type Report struct {
	Memories int `json:"memories"` // that are to have a copy
	Copies   int `json:"copies"`   // that carry an id of ours

	Missing    int `json:"missing"`    // memories without a lane: never copied
	Stale      int `json:"stale"`      // copies of what a memory was before
	Dead       int `json:"dead"`       // lanes that were given up: tried again
	Forsaken   int `json:"forsaken"`   // lanes at rest of memories that are gone
	Altered    int `json:"altered"`    // copies that others changed
	Lost       int `json:"lost"`       // copies that others removed
	Adopted    int `json:"adopted"`    // copies that no lane knew
	Orphaned   int `json:"orphaned"`   // copies of memories that are gone
	Duplicates int `json:"duplicates"` // second copies

	Pending int `json:"pending"` // lanes that have work anyway; no drift
	// Unlisted are users whose copies the other system does not list.
	Unlisted []string `json:"unlisted,omitempty"`
}

// Drift is how many differences there are that nobody was about to mend.
func (r Report) Drift() int {
	return r.Missing + r.Stale + r.Dead + r.Forsaken + r.Altered + r.Lost + r.Adopted + r.Orphaned + r.Duplicates
}

// resync is one on its way. It keeps 16 bytes for each copy that it has seen.
type resync struct {
	m      *Mirror
	o      ResyncOptions
	since  time.Time // the database's, before anything was listed
	report Report
	seen   map[uuid.UUID]bool // memories whose own copy was listed; true: counted as altered
	whole  bool               // everything was listed
}

// Resync holds the memories against their copies and mends what differs: first what
// the other system lists, so that a copy which is there is not made again, then what
// the memories say. It may run beside workers, for it leaves alone what a lane is
// about to do; what it wakes is carried by the lanes' jobs. The copies that nobody
// knows it removes itself.
func (m *Mirror) Resync(ctx context.Context, o ResyncOptions) (Report, error) {
	r := &resync{m: m, o: o, seen: map[uuid.UUID]bool{}}
	var err error
	if r.since, err = db.New(m.pool).DatabaseTime(ctx); err != nil {
		return r.report, fmt.Errorf("read the database's time: %w", err)
	}
	for _, step := range []func(context.Context) error{r.theirs, r.lost, r.ours, r.forsaken} {
		if err := step(ctx); err != nil {
			return r.report, errors.Join(err, r.audit(ctx))
		}
	}
	return r.report, r.audit(ctx)
}

// audit writes down who had what mended, also when it came to no end.
func (r *resync) audit(ctx context.Context) error {
	if r.o.DryRun {
		return nil
	}
	details, err := json.Marshal(map[string]any{"user_id": r.o.UserID, "report": r.report})
	if err != nil {
		return fmt.Errorf("encode audit details: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	p := db.InsertAuditParams{Actor: r.o.Actor, Action: "memory.resync", Object: "memory/" + r.m.o.Backend, Details: details}
	if err := db.New(r.m.pool).InsertAudit(ctx, p); err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}

// theirs goes through the copies. A system that does not list those of everybody at
// once is asked user by user.
func (r *resync) theirs(ctx context.Context) error {
	err := r.list(ctx, r.o.UserID)
	switch kind := memory.RemoteKindOf(err); {
	case err == nil:
		r.whole = true
		return nil
	case r.o.UserID != "" || r.report.Copies > 0 || (kind != memory.RemoteRefused && kind != memory.RemoteUnauthorized):
		return r.unlisted(r.o.UserID, err)
	}
	r.whole = true
	after := ""
	for {
		users, err := db.New(r.m.pool).ListMirroredUsers(ctx, db.ListMirroredUsersParams{Backend: r.m.o.Backend, After: after, MaxRows: resyncRows})
		if err != nil {
			return fmt.Errorf("list users: %w", err)
		}
		for _, user := range users {
			if err := r.unlisted(user, r.list(ctx, user)); err != nil {
				return err
			}
			after = user
		}
		if len(users) < resyncRows {
			return nil
		}
	}
}

// unlisted takes note of a user whose copies are not listed, as where there are too
// many. Any other error ends the resync.
func (r *resync) unlisted(user string, err error) error {
	if err == nil {
		return nil
	}
	if user == "" || memory.RemoteKindOf(err) != memory.RemoteRefused {
		return fmt.Errorf("list copies: %w", err)
	}
	r.whole = false
	r.report.Unlisted = append(r.report.Unlisted, user)
	return nil
}

func (r *resync) list(ctx context.Context, user string) error {
	var last []memory.Copy
	for cursor := ""; ; {
		copies, following, err := r.page(ctx, user, cursor)
		if err != nil {
			return err
		}
		if len(copies) > 0 && slices.Equal(copies, last) {
			return errRepeats
		}
		last = copies
		for chunk := range slices.Chunk(copies, resyncRows) {
			if err := r.compare(ctx, chunk); err != nil {
				return err
			}
			r.tell()
		}
		if following == "" {
			return nil
		}
		cursor = following
	}
}

// page asks for a page of copies, again where that may help.
func (r *resync) page(ctx context.Context, user, cursor string) (copies []memory.Copy, following string, err error) {
	for try := range listTries {
		copies, following, err = r.m.remote.List(ctx, user, cursor)
		kind := memory.RemoteKindOf(err)
		if err == nil || ctx.Err() != nil || kind == memory.RemoteRefused || kind == memory.RemoteUnauthorized {
			return copies, following, err
		}
		pause := time.NewTimer(max(retryAfter(err), time.Duration(try)*time.Second))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, "", ctx.Err()
		}
	}
	return nil, "", err
}

// found is what is to be done about the copies of a page.
type found struct {
	adopt db.AdoptCopiesParams
	doubt db.DoubtCopiesParams
	extra []memory.Copy // to be removed
}

// compare holds copies against what we know of their memories.
func (r *resync) compare(ctx context.Context, copies []memory.Copy) error {
	ids := make([]uuid.UUID, len(copies))
	for i, c := range copies {
		ids[i] = c.ID
	}
	q := db.New(r.m.pool)
	rows, err := q.LookUpCopies(ctx, db.LookUpCopiesParams{Backend: r.m.o.Backend, Ids: ids})
	if err != nil {
		return fmt.Errorf("look up copies: %w", err)
	}
	known := make(map[uuid.UUID]db.LookUpCopiesRow, len(rows))
	for _, row := range rows {
		known[row.ID] = row
	}
	f := &found{adopt: db.AdoptCopiesParams{Backend: r.m.o.Backend}, doubt: db.DoubtCopiesParams{Backend: r.m.o.Backend}}
	for _, c := range copies {
		r.report.Copies++
		r.sort(c, known[c.ID], f)
	}
	if r.o.DryRun {
		return nil
	}
	if len(f.adopt.MemoryIds) > 0 {
		if _, err := q.AdoptCopies(ctx, f.adopt); err != nil {
			return fmt.Errorf("adopt copies: %w", err)
		}
	}
	if len(f.doubt.MemoryIds) > 0 {
		if err := q.DoubtCopies(ctx, f.doubt); err != nil {
			return fmt.Errorf("doubt copies: %w", err)
		}
	}
	return r.remove(ctx, f.extra)
}

// sort says what a copy is. One whose lane has work is left to it.
func (r *resync) sort(c memory.Copy, row db.LookUpCopiesRow, f *found) {
	_, before := r.seen[c.ID]
	resting := row.Status == "synced" || row.Status == "dead"
	theirs, err := hex.DecodeString(c.Checksum)
	if err != nil || len(theirs) != 32 {
		theirs = nil
	}
	switch {
	case !row.HasLane && !row.There:
		r.report.Orphaned++
		f.extra = append(f.extra, c)
	case row.RemoteID != nil && *row.RemoteID == c.RemoteID:
		r.seen[c.ID] = false
		if row.Status == "synced" && theirs != nil && !slices.Equal(theirs, row.Checksum) {
			r.report.Altered++
			r.seen[c.ID] = true
			f.doubt.MemoryIds, f.doubt.RemoteIds = append(f.doubt.MemoryIds, c.ID), append(f.doubt.RemoteIds, c.RemoteID)
		}
	case row.RemoteID != nil && resting, before:
		r.report.Duplicates++
		f.extra = append(f.extra, c)
	case row.RemoteID == nil && !row.Adding:
		r.report.Adopted++
		r.seen[c.ID] = false
		f.adopt.MemoryIds, f.adopt.UserIds = append(f.adopt.MemoryIds, c.ID), append(f.adopt.UserIds, row.UserID)
		f.adopt.RemoteIds, f.adopt.Checksums = append(f.adopt.RemoteIds, c.RemoteID), append(f.adopt.Checksums, orEmpty(theirs))
	}
}

// remove removes copies that nobody knows, if that is still so.
func (r *resync) remove(ctx context.Context, extra []memory.Copy) error {
	for _, c := range extra {
		rows, err := db.New(r.m.pool).LookUpCopies(ctx, db.LookUpCopiesParams{Backend: r.m.o.Backend, Ids: []uuid.UUID{c.ID}})
		if err != nil {
			return fmt.Errorf("look up a copy: %w", err)
		}
		row := rows[0]
		// A lane with work may be about to give its copy the name of this one.
		known := row.RemoteID == nil || *row.RemoteID == c.RemoteID || (row.Status != "synced" && row.Status != "dead")
		if (row.HasLane && known) || (!row.HasLane && row.There) {
			continue
		}
		if err := r.m.remote.Delete(ctx, c.RemoteID); err != nil {
			return fmt.Errorf("remove a copy of memory %s: %w", c.ID, err)
		}
	}
	return nil
}
