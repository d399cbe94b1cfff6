package process

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/memory"
)

// syncGroup is one transaction's worth of syncs on its way through the five steps.
type syncGroup struct {
	units   []synced
	answers []group.Answer[struct{}]
	newID   func() uuid.UUID
	// connected says that Zoho is read: then accounts have an overview of what
	// belongs to them, and the graph follows the records.
	connected bool

	now      time.Time
	lanes    map[string]*accountLane
	received map[int64]time.Time // of the locked events that are still to be processed
	records  map[recordKey]*record
	memories map[recordKey]*memory.Row
	related  map[recordKey][]memory.Link

	live      []int // units that are neither held nor fenced off
	touched   map[recordKey]int64
	changes   []memory.Change
	links     []memory.LinkChange
	woken     map[string]bool // accounts that a record came to or left
	processed []int64
	waited    time.Duration // from receipt to now, summed over the events processed
	failures  []failure
}

// lock takes accounts, events and records, in this order, skipping what others
// hold. A unit whose lane names another job, or whose work is done, has nothing
// to write: its attempt is a stale one.
func (g *syncGroup) lock(ctx context.Context, q *db.Queries) error {
	if err := g.lockLanes(ctx, q); err != nil {
		return err
	}
	if err := g.lockEvents(ctx, q); err != nil {
		return err
	}
	return g.lockRecords(ctx, q)
}

func (g *syncGroup) lockLanes(ctx context.Context, q *db.Queries) error {
	ids := map[string]bool{}
	for _, u := range g.units {
		ids[u.accountID] = true
	}
	rows, err := q.LockAccounts(ctx, sortedKeys(ids))
	if err != nil {
		return fmt.Errorf("lock accounts: %w", err)
	}
	g.lanes = make(map[string]*accountLane, len(rows))
	for _, r := range rows {
		g.lanes[r.AccountID] = newLane(r)
		g.now = r.Now
	}
	closed := map[string]bool{}
	for i, u := range g.units {
		l, ok := g.lanes[u.accountID]
		switch {
		case !ok:
			g.answers[i].Err = group.ErrHeld
		case l.done >= u.upTo, l.jobID == nil, *l.jobID != u.jobID, closed[u.accountID]:
		default:
			g.live = append(g.live, i)
			// Two attempts of one job may meet in one group: the first ends the claim.
			closed[u.accountID] = !u.rest
		}
	}
	return nil
}

func (g *syncGroup) lockEvents(ctx context.Context, q *db.Queries) error {
	var ids []int64
	for _, i := range g.live {
		for _, o := range g.units[i].observations {
			if o.EventID != 0 {
				ids = append(ids, o.EventID)
			}
		}
		for _, f := range g.units[i].failures {
			ids = append(ids, f.eventID)
		}
	}
	g.received = map[int64]time.Time{}
	if len(ids) == 0 {
		return nil
	}
	rows, err := q.LockEvents(ctx, ids)
	if err != nil {
		return fmt.Errorf("lock events: %w", err)
	}
	locked := make(map[int64]bool, len(rows))
	for _, r := range rows {
		locked[r.ID] = true
		if r.Status == "routed" || r.Status == "retrying" {
			g.received[r.ID] = r.ReceivedAt
		}
	}
	g.hold(func(u synced) bool {
		return slices.ContainsFunc(u.observations, func(o Observation) bool { return o.EventID != 0 && !locked[o.EventID] }) ||
			slices.ContainsFunc(u.failures, func(f failure) bool { return !locked[f.eventID] })
	})
	return nil
}

// lockRecords locks the rows of all records observed, making those that are not
// there: without a row there is nothing that two syncs of one record could wait for.
func (g *syncGroup) lockRecords(ctx context.Context, q *db.Queries) error {
	owners := map[recordKey]string{}
	for _, i := range g.live {
		for _, o := range g.units[i].observations {
			owners[recordKey{o.Module, o.RecordID}] = g.units[i].accountID
		}
		if k, ok := g.overviewOf(g.units[i]); ok {
			owners[k] = g.units[i].accountID
		}
	}
	g.records, g.touched, g.woken = map[recordKey]*record{}, map[recordKey]int64{}, map[string]bool{}
	if len(owners) == 0 {
		return nil
	}
	keys := sortedRecordKeys(owners)
	modules, ids := splitKeys(keys)
	rows, err := q.LockRecords(ctx, db.LockRecordsParams{Modules: modules, RecordIds: ids})
	if err != nil {
		return fmt.Errorf("lock records: %w", err)
	}
	for _, row := range rows {
		r, err := readRecord(row)
		if err != nil {
			return err
		}
		g.records[recordKey{r.module, r.id}] = r
	}
	missing := slices.DeleteFunc(keys, func(k recordKey) bool { return g.records[k] != nil })
	if err := g.insertRecords(ctx, q, missing, owners); err != nil {
		return err
	}
	g.hold(func(u synced) bool {
		if k, ok := g.overviewOf(u); ok && g.records[k] == nil {
			return true
		}
		return slices.ContainsFunc(u.observations, func(o Observation) bool { return g.records[recordKey{o.Module, o.RecordID}] == nil })
	})
	return nil
}

func (g *syncGroup) insertRecords(ctx context.Context, q *db.Queries, keys []recordKey, owners map[recordKey]string) error {
	if len(keys) == 0 {
		return nil
	}
	modules, ids := splitKeys(keys)
	accounts := make([]string, len(keys))
	for i, k := range keys {
		accounts[i] = owners[k]
	}
	made, err := q.InsertRecords(ctx, db.InsertRecordsParams{Modules: modules, RecordIds: ids, AccountIds: accounts})
	if err != nil {
		return fmt.Errorf("insert records: %w", err)
	}
	for _, m := range made {
		k := recordKey{m.Module, m.RecordID}
		g.records[k] = &record{module: k.module, id: k.id, accountID: owners[k], data: Fields{}, times: map[string]stamp{}}
	}
	return nil
}

// hold sends units back to the line whose rows are not all ours.
func (g *syncGroup) hold(missing func(synced) bool) {
	g.live = slices.DeleteFunc(g.live, func(i int) bool {
		if !missing(g.units[i]) {
			return false
		}
		g.answers[i].Err = group.ErrHeld
		return true
	})
}

// load reads what is remembered of the records.
func (g *syncGroup) load(ctx context.Context, q *db.Queries) error {
	g.memories = map[recordKey]*memory.Row{}
	if len(g.records) == 0 {
		return nil
	}
	modules, ids := splitKeys(sortedRecordKeys(g.records))
	rows, err := q.ListMemoriesOfRecords(ctx, db.ListMemoriesOfRecordsParams{Modules: modules, RecordIds: ids})
	if err != nil {
		return fmt.Errorf("list memories of records: %w", err)
	}
	for _, row := range rows {
		m, err := readMemory(row)
		if err != nil {
			return err
		}
		g.memories[recordKey{row.Module, row.RecordID}] = m
	}
	return g.loadLinks(ctx, q, modules, ids)
}

// apply folds the units in their order; each sees those before it. What came of
// a record is compared with what is remembered once, at the end.
func (g *syncGroup) apply() {
	for _, i := range g.live {
		u := g.units[i]
		for _, o := range u.observations {
			if o.EventID != 0 {
				receivedAt, open := g.received[o.EventID]
				if !open {
					continue // processed by another attempt, or decided by a person
				}
				delete(g.received, o.EventID)
				g.waited += g.now.Sub(receivedAt)
				g.processed = append(g.processed, o.EventID)
			}
			g.fold(o, u.accountID)
		}
		for _, f := range u.failures {
			if _, open := g.received[f.eventID]; open {
				g.failures = append(g.failures, f)
			}
		}
	}
	for _, k := range sortedRecordKeys(g.touched) {
		if g.connected && k.module == "Accounts" {
			continue // its overview counts the records that are still to be written
		}
		g.changes = append(g.changes, changesOf(g.records[k], nil, g.memories[k], g.touched[k], g.newID)...)
	}
	g.link()
}

// fold brings an observation into its record, and notes who is to look again
// because it came or went.
func (g *syncGroup) fold(o Observation, laneID string) {
	k := recordKey{o.Module, o.RecordID}
	r := g.records[k]
	before, was := r.accountID, r.there()
	// In another lane than that of its account, whatever a reader sees of the record
	// may change what the account's overview says.
	var read [32]byte
	elsewhere := g.connected && r.accountID != laneID
	if elsewhere {
		read = readerSees(r)
	}
	r.fold(o)
	g.touched[k] = max(g.touched[k], o.EventID)
	changed := elsewhere && readerSees(r) != read
	if !g.connected || (before == r.accountID && was == r.there() && !changed) {
		return
	}
	for _, id := range []string{before, r.accountID} {
		if isAccount(id) {
			g.woken[id] = true
		}
	}
}

// readerSees is equal for two states of a record that a reader cannot tell apart.
func readerSees(r *record) [32]byte {
	m, ok := memoryOf(r, nil)
	if !ok {
		return [32]byte{}
	}
	return m.Checksum()
}

// closing are the units that end their lane's claim, by account.
func (g *syncGroup) closing() []synced {
	var units []synced
	for _, i := range g.live {
		if !g.units[i].rest {
			units = append(units, g.units[i])
		}
	}
	slices.SortFunc(units, func(a, b synced) int {
		switch {
		case a.accountID < b.accountID:
			return -1
		case a.accountID > b.accountID:
			return 1
		}
		return 0
	})
	return units
}

func readRecord(row db.LockRecordsRow) (*record, error) {
	r := &record{module: row.Module, id: row.RecordID, accountID: row.AccountID, data: Fields{}, times: map[string]stamp{}}
	if err := json.Unmarshal(row.Data, &r.data); err != nil {
		return nil, fmt.Errorf("read record %s %s: %w", row.Module, row.RecordID, err)
	}
	if err := json.Unmarshal(row.FieldTimes, &r.times); err != nil {
		return nil, fmt.Errorf("read field times of %s %s: %w", row.Module, row.RecordID, err)
	}
	r.modifiedAt, r.lifeAt, r.deletedAt = orZero(row.ModifiedAt), orZero(row.LifeAt), orZero(row.DeletedAt)
	r.readAt = orZero(row.ReadAt)
	if row.LifeEventID != nil {
		r.lifeEventID = *row.LifeEventID
	}
	return r, nil
}

func readMemory(row db.ListMemoriesOfRecordsRow) (*memory.Row, error) {
	metadata, err := memory.ReadMetadata(row.Metadata)
	if err != nil {
		return nil, fmt.Errorf("memory %s: %w", row.ID, err)
	}
	m := &memory.Row{
		ID: row.ID, UserID: row.UserID, Kind: row.Kind, Content: row.Content, Metadata: metadata,
		Module: row.Module, RecordID: row.RecordID, CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}
	if row.AccountID != nil {
		m.AccountID = *row.AccountID
	}
	return m, nil
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func sortedRecordKeys[V any](m map[recordKey]V) []recordKey {
	keys := make([]recordKey, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b recordKey) int {
		if a.less(b) {
			return -1
		}
		return 1
	})
	return keys
}

func splitKeys(keys []recordKey) (modules, ids []string) {
	for _, k := range keys {
		modules, ids = append(modules, k.module), append(ids, k.id)
	}
	return modules, ids
}
