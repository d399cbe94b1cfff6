package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/memrelay/memrelay/internal/zoho"
)

// SourceReconcile is the source of events that the reconciliation makes of what
// it found. They carry the record as it was read, so it is not read again.
const SourceReconcile = "reconcile"

// readAtField stands in a record that reconciliation read: the database's time
// before the read began.
const readAtField = "$read_at"

// Reader is what of Zoho's API a sync needs.
type Reader interface {
	// Read returns those of a module's records that Zoho has, by id.
	Read(ctx context.Context, module string, ids []string) (map[string]zoho.Record, error)
	Related(ctx context.Context, module, id, list, fieldsOf string, cursor zoho.Cursor) (zoho.Page, error)
	// Whole returns records of a list with the texts that a list may have cut.
	Whole(ctx context.Context, module string, records []zoho.Record) ([]zoho.Record, error)
	RelatedLists(ctx context.Context, module string) ([]zoho.RelatedList, error)
}

// Reads is the source when Zoho is connected: what an event came with says only
// which record to read.
type Reads struct {
	zoho    Reader
	modules []string // that are worked; nil: all
	log     *slog.Logger
}

// NewReads makes a source that believes what Zoho answers. Of a whole account
// only what is of modules is read: of others no webhook would ever tell.
func NewReads(z Reader, modules []string, log *slog.Logger) *Reads {
	r := &Reads{zoho: z, log: log}
	for _, m := range modules {
		r.modules = append(r.modules, zoho.Listed(m)...)
	}
	return r
}

// Observe reads the records that events name, each once however many events name
// it. A record that Zoho does not have is gone, whatever its events said. Records
// of a module that Zoho does not let us read are believed what they came with.
func (s *Reads) Observe(ctx context.Context, events []Event) ([]Observation, error) {
	observations := make([]Observation, len(events))
	read := make([]bool, len(events))
	wanted := map[string]map[string]bool{} // ids by module as the events name it
	for i, e := range events {
		if observations[i], read[i] = alreadyRead(e); read[i] {
			continue
		}
		if wanted[e.Module] == nil {
			wanted[e.Module] = map[string]bool{}
		}
		wanted[e.Module][e.RecordID] = true
	}
	answers := make(map[string]*answer, len(wanted))
	for module := range wanted {
		answers[module] = &answer{}
	}
	g, gctx := errgroup.WithContext(ctx)
	for module, a := range answers {
		g.Go(func() (err error) {
			*a, err = s.read(gctx, module, sortedKeys(wanted[module]))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var beside []Observation
	for i, e := range events {
		if read[i] {
			continue
		}
		found := answers[e.Module].of(e)
		observations[i] = found[0]
		beside = append(beside, found[1:]...)
	}
	return append(observations, beside...), nil
}

// alreadyRead takes an event of the reconciliation, which carries what was read.
func alreadyRead(e Event) (Observation, bool) {
	if e.Source != SourceReconcile || e.Record == nil {
		return Observation{}, false
	}
	var fields Fields
	if json.Unmarshal(e.Record, &fields) != nil {
		return Observation{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, scalar(fields[readAtField]))
	if err != nil {
		return Observation{}, false // a deletion says no more than which record to look at
	}
	delete(fields, readAtField)
	return Observation{EventID: e.ID, Module: e.Module, RecordID: e.RecordID, Fields: storable(zoho.Record(fields)), ReadAt: at.UTC()}, true
}

// answer is what Zoho said of records of one module.
type answer struct {
	unreadable bool                   // Zoho does not let us read the module, or not all that it may stand for
	found      map[string]foundRecord // by id
	asked      []string               // the modules that were looked at
	broken     map[string]error       // records whose reading is at fault, by id
	refused    map[string]bool        // ids that Zoho takes for none
}

type foundRecord struct {
	module string
	fields Fields
}

// of makes an event's observation, and further ones where the record may be known
// under several modules' names: it is gone under those that it is not found under.
func (a *answer) of(e Event) []Observation {
	o := Observation{EventID: e.ID, Module: e.Module, RecordID: e.RecordID, ReadAt: e.TakenAt}
	f, found := a.found[e.RecordID]
	switch {
	case a.broken[e.RecordID] != nil:
		o.Err = a.broken[e.RecordID]
		return []Observation{o}
	case !found && (a.unreadable || a.refused[e.RecordID]):
		if e.Source == SourceReconcile && e.Operation == "delete" && e.OccurredAt.IsZero() {
			// It only guessed, from a list that did not show the record: perhaps because it
			// may not be read any more. That says nothing.
			return []Observation{{EventID: e.ID, Module: e.Module, RecordID: e.RecordID}}
		}
		return []Observation{observe(e)}
	}
	var all []Observation
	if found {
		here := o
		here.Module, here.Fields = f.module, f.fields
		all = append(all, here)
	}
	gone := a.asked
	if !slices.Contains(zoho.Listed(e.Module), e.Module) {
		// What payloads said under the notification's own name is of the same record.
		gone = append(slices.Clone(gone), e.Module)
	}
	for _, module := range gone {
		if found && slices.Contains(a.asked, module) {
			continue // a record is of one module, and stays of it
		}
		o.Module = module
		if len(all) > 0 {
			o.EventID = 0
		}
		all = append(all, o)
	}
	return all
}

func (s *Reads) read(ctx context.Context, module string, ids []string) (answer, error) {
	a := answer{found: map[string]foundRecord{}, broken: map[string]error{}, refused: map[string]bool{}}
	for _, name := range zoho.Listed(module) {
		records, err := s.readAll(ctx, name, ids, &a)
		switch zoho.KindOf(err) {
		case zoho.KindInvalid, zoho.KindForbidden:
			s.log.WarnContext(ctx, "Zoho does not let us read a module: its webhooks are believed instead", "module", name, "error", err)
			a.unreadable = true
			continue
		}
		if err != nil {
			return a, fmt.Errorf("read %s: %w", name, err)
		}
		a.asked = append(a.asked, name)
		for id, r := range records {
			a.found[id] = foundRecord{module: name, fields: storable(r)}
		}
		ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return records[id] != nil })
		if len(ids) == 0 {
			break
		}
	}
	return a, nil
}

// readAll reads records, in halves when one of them keeps the others from being
// read. One that is too large by itself is at fault; of an id that Zoho takes for
// none its webhooks are believed.
func (s *Reads) readAll(ctx context.Context, module string, ids []string, a *answer) (map[string]zoho.Record, error) {
	records, err := s.zoho.Read(ctx, module, ids)
	tooLarge, refused := zoho.KindOf(err) == zoho.KindTooLarge, refusesID(err)
	switch {
	case !tooLarge && !refused:
		return records, err
	case len(ids) > 1:
	case tooLarge:
		a.broken[ids[0]] = fmt.Errorf("%w: %w", errEvent, err)
		return nil, nil
	default:
		s.log.WarnContext(ctx, "Zoho takes an id for none: its webhooks are believed", "module", module, "record_id", ids[0], "error", err)
		a.refused[ids[0]] = true
		return nil, nil
	}
	all := map[string]zoho.Record{}
	for _, half := range [][]string{ids[:len(ids)/2], ids[len(ids)/2:]} {
		some, err := s.readAll(ctx, module, half, a)
		if err != nil {
			return nil, err
		}
		for id, r := range some {
			all[id] = r
		}
	}
	return all, nil
}

// refusesID reports whether a read failed for what an id is, which says nothing
// of the module's other records. Without a code it was not even sent.
func refusesID(err error) bool {
	var e *zoho.Error
	if !errors.As(err, &e) || e.Kind != zoho.KindInvalid {
		return false
	}
	return e.Code == "" || e.Code == "INVALID_DATA" || e.Code == "PATTERN_NOT_MATCHED"
}

// A whole account is read in steps, and a step in pages. The cursor names the
// step, and where in it the next page begins.
const (
	stepHead  = "head"  // the account's own record
	stepList  = "list"  // a related list
	stepCheck = "check" // what we know and no list has shown: moved, or gone
)

// wholePage is a part of a whole account.
type wholePage struct {
	observations []Observation
	next         string // where the read goes on; "": it has ended
}

// whole reads the next page of everything that hangs on an account: its record,
// then the related lists of the modules that are worked. After the last of them
// it returns a cursor of the check, which the caller makes with Observe.
func (s *Reads) whole(ctx context.Context, at time.Time, accountID, cursor string) (wholePage, error) {
	step, rest, _ := strings.Cut(cursor, ":")
	if step != stepList {
		observations, err := s.Observe(ctx, []Event{{Module: "Accounts", RecordID: accountID, TakenAt: at}})
		return wholePage{observations: observations, next: stepList + ":"}, err
	}
	lists, err := s.lists(ctx)
	if err != nil {
		return wholePage{}, err
	}
	if len(lists) == 0 {
		return wholePage{next: stepCheck + ":"}, nil
	}
	name, at0, _ := strings.Cut(rest, ":")
	i := slices.IndexFunc(lists, func(l zoho.RelatedList) bool { return l.APIName == name })
	if i < 0 {
		i, at0 = 0, "" // the beginning, or a list that has another name by now
	}
	list := lists[i]
	page, err := s.zoho.Related(ctx, "Accounts", accountID, list.APIName, list.Module, zoho.Cursor(at0))
	var zohoErr *zoho.Error
	switch {
	case errors.As(err, &zohoErr) && at0 != "" && (zohoErr.Code == "EXPIRED_VALUE" || zohoErr.Code == "TOKEN_BOUND_DATA_MISMATCH"):
		// A page token is good for a day. To begin anew might never end; what the list has
		// not shown yet is looked at in the check, where it is known.
		s.log.WarnContext(ctx, "a related list was read in part: its page token has lapsed", "account_id", accountID, "list", list.APIName)
		page = zoho.Page{}
	case zoho.KindOf(err) == zoho.KindInvalid, zoho.KindOf(err) == zoho.KindForbidden, zoho.KindOf(err) == zoho.KindTooLarge:
		s.log.WarnContext(ctx, "a related list cannot be read and is left out", "account_id", accountID, "list", list.APIName, "error", err)
		page = zoho.Page{}
	case err != nil:
		return wholePage{}, fmt.Errorf("read %s of account %s: %w", list.APIName, accountID, err)
	}
	records, err := s.zoho.Whole(ctx, list.Module, page.Records)
	switch zoho.KindOf(err) {
	case zoho.KindInvalid, zoho.KindForbidden, zoho.KindTooLarge:
		s.log.WarnContext(ctx, "texts of a related list stay as it cut them", "account_id", accountID, "list", list.APIName, "error", err)
		records, err = page.Records, nil
	}
	if err != nil {
		return wholePage{}, fmt.Errorf("read whole texts of %s of account %s: %w", list.APIName, accountID, err)
	}
	p := wholePage{next: stepCheck + ":"}
	if page.Next != "" {
		p.next = stepList + ":" + list.APIName + ":" + string(page.Next)
	} else if i+1 < len(lists) {
		p.next = stepList + ":" + lists[i+1].APIName + ":"
	}
	for _, r := range records {
		if id := r.ID(); id != "" {
			p.observations = append(p.observations, Observation{Module: list.Module, RecordID: id, Fields: storable(r), ReadAt: at, Of: accountID})
		}
	}
	return p, nil
}

// lists are an account's related lists that hold what is remembered, by module:
// closed tasks and past meetings stand in lists of their own. Zoho names them;
// where it does not let us ask they have the names that every account has.
func (s *Reads) lists(ctx context.Context) ([]zoho.RelatedList, error) {
	known := []zoho.RelatedList{
		{APIName: "Contacts", Module: "Contacts"}, {APIName: "Deals", Module: "Deals"}, {APIName: "Notes", Module: "Notes"},
		{APIName: "Tasks", Module: "Tasks"}, {APIName: "Events", Module: "Events"}, {APIName: "Calls", Module: "Calls"},
	}
	known = slices.DeleteFunc(known, func(l zoho.RelatedList) bool { return s.modules != nil && !slices.Contains(s.modules, l.Module) })
	all, err := s.zoho.RelatedLists(ctx, "Accounts")
	switch zoho.KindOf(err) {
	case zoho.KindForbidden, zoho.KindInvalid:
		return known, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list related lists: %w", err)
	}
	var lists []zoho.RelatedList
	for _, k := range known {
		for _, l := range all {
			if l.Module == k.Module {
				lists = append(lists, l)
			}
		}
	}
	if len(lists) == 0 {
		return known, nil
	}
	return lists, nil
}

// storable are a record's fields as Postgres takes them: text without the NUL
// character, which JSON allows and jsonb refuses, and without halves of surrogate
// pairs or bytes that are no text. What is no JSON is left out.
func storable(r zoho.Record) Fields {
	fields := make(Fields, len(r))
	for name, raw := range r {
		if strings.ContainsRune(name, 0) || !json.Valid(raw) {
			continue
		}
		if bytes.Contains(raw, []byte(`\u`)) || !utf8.Valid(raw) {
			raw = plainText(raw)
		}
		fields[name] = raw
	}
	return fields
}

// plainText writes JSON anew; Go puts the replacement character for what is no text.
func plainText(raw json.RawMessage) json.RawMessage {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return raw
	}
	encoded, err := json.Marshal(withoutNUL(value))
	if err != nil {
		return raw
	}
	return encoded
}

func withoutNUL(value any) any {
	switch v := value.(type) {
	case string:
		return strings.ReplaceAll(v, "\x00", "")
	case []any:
		for i := range v {
			v[i] = withoutNUL(v[i])
		}
		return v
	case map[string]any:
		clean := make(map[string]any, len(v))
		for name, item := range v {
			clean[strings.ReplaceAll(name, "\x00", "")] = withoutNUL(item)
		}
		return clean
	default:
		return value
	}
}
