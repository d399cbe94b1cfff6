package reconcile

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/zoho"
)

const (
	// maxRecord bounds a record as JSON, in bytes, as the door bounds a body.
	maxRecord = 1 << 20
	// maxID bounds an id, in bytes, as the door does.
	maxID = 255
	// skew is how much Zoho's clock may be ahead of ours.
	skew = 5 * time.Minute
)

// The operations that events are made of.
const (
	opCreate  = "create"
	opUpdate  = "update"
	opDelete  = "delete"
	opRestore = "restore"
)

// listedRecord is a record as Zoho listed it.
type listedRecord struct {
	id       string
	fields   zoho.Record
	json     []byte    // of the fields, in the order of their names
	modified time.Time // by Zoho's clock; zero: not said
	cut      bool      // the list may have cut a text
}

// errRecord is a record that cannot be taken.
var errRecord = errors.New("the record cannot be taken")

// take reads a record. What Postgres would refuse is taken out of it: NULs, and
// halves of characters. It returns errRecord for one that is none; the id is
// returned as far as there is one.
func take(r zoho.Record) (listedRecord, error) {
	if r == nil {
		return listedRecord{}, fmt.Errorf("%w: it is no JSON object", errRecord)
	}
	fields := make(zoho.Record, len(r))
	for name, value := range r {
		fields[cleanText(name)] = clean(value)
	}
	l := listedRecord{id: strings.TrimSpace(fields.ID()), fields: fields}
	if l.id == "" || len(l.id) > maxID {
		l.id = ""
		return l, fmt.Errorf("%w: it has no id, or one longer than %d bytes", errRecord, maxID)
	}
	var err error
	if l.json, err = encode(fields); err != nil {
		return l, fmt.Errorf("%w: %w", errRecord, err)
	}
	if len(l.json) > maxRecord {
		return l, fmt.Errorf("%w: it is larger than 1 MiB as JSON", errRecord)
	}
	l.modified = modifiedTime(fields)
	for _, value := range fields {
		text, ok := decode(value).(string)
		l.cut = l.cut || ok && zoho.MayBeCut(text)
	}
	return l, nil
}

// nameless names a record without an id among a sync's errors.
func nameless(r zoho.Record) string {
	text, _ := encode(r)
	return "no id, content " + digestOf(text)
}

// digestOf is short, and another one for other content.
func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:8])
}

// readAtField stands in the record of an event that carries all of a record, and
// says when the read began: process need not read it again.
const readAtField = "$read_at"

// body is the record as its event carries it. One that a list may have cut does
// not say when it was read: then process reads all of it.
func (l listedRecord) body(readAt time.Time) []byte {
	if l.cut {
		return l.json
	}
	stamp := readAt.UTC().Format("2006-01-02T15:04:05.000000Z07:00")
	return fmt.Appendf(slices.Clone(l.json[:len(l.json)-1]), `,%q:%q}`, readAtField, stamp)
}

// encode writes JSON as it is meant: < stays <.
func encode(v any) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}

// unstorable are the escapes that may stand for what Postgres refuses.
var unstorable = regexp.MustCompile(`\\u(0000|[dD][89a-fA-F])`)

// clean is value without what Postgres refuses in JSON.
func clean(value json.RawMessage) json.RawMessage {
	if utf8.Valid(value) && !unstorable.Match(value) {
		return value
	}
	text, err := encode(cleaned(decode(value)))
	if err != nil {
		return json.RawMessage("null")
	}
	return text
}

// cleaned is a decoded value without NULs; decoding has made what is no
// character a replacement character.
func cleaned(value any) any {
	switch v := value.(type) {
	case string:
		return cleanText(v)
	case []any:
		for i := range v {
			v[i] = cleaned(v[i])
		}
	case map[string]any:
		for _, name := range slices.Collect(maps.Keys(v)) {
			item := v[name]
			delete(v, name)
			v[cleanText(name)] = cleaned(item)
		}
	}
	return value
}

// cleanText is text as Postgres takes it.
func cleanText(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
}

// judge holds a listed record against what is known of it: known is nil when
// nothing is. It returns "" when there is no difference to tell of, else the
// operation that makes one of it, and the fields that differ.
//
// Modified_Time alone would not do: Zoho's formula fields change without it.
func judge(known *db.ListKnownRecordsRow, l listedRecord, readAt time.Time) (operation string, fields []string) {
	switch {
	case known == nil:
		return opCreate, nil
	case known.ReadAt != nil && !known.ReadAt.Before(readAt):
		return "", nil // a newer read is in
	case known.DeletedAt != nil && known.DeletedAt.After(readAt):
		return "", nil // deleted since
	case known.DeletedAt != nil:
		return opRestore, nil
	}
	var data map[string]json.RawMessage
	if json.Unmarshal(known.Data, &data) != nil {
		return opUpdate, nil
	}
	if newest := knownTime(known, data); known.ReadAt != nil && !l.modified.IsZero() && newest.After(l.modified) {
		return "", nil // what a payload says of itself may be any time
	}
	for _, name := range slices.Sorted(maps.Keys(l.fields)) {
		was, is := decode(data[name]), decode(l.fields[name])
		if (!equal(was, is) && !cutFrom(was, is)) || keptCut(was, is) {
			fields = append(fields, name)
		}
	}
	if len(fields) == 0 {
		return "", nil
	}
	return opUpdate, fields
}

// notModified reports whether Zoho says of a record that it was not modified
// since it was read.
func notModified(known *db.ListKnownRecordsRow, l listedRecord) bool {
	return known != nil && known.ReadAt != nil && known.ModifiedAt != nil && !l.modified.IsZero() && !l.modified.After(*known.ModifiedAt)
}

// knownTime is Modified_Time as far as it is known. That of a record made of
// payloads may be the time of their receipt, which says nothing.
func knownTime(known *db.ListKnownRecordsRow, data map[string]json.RawMessage) time.Time {
	if t := modifiedTime(data); !t.IsZero() || known.ReadAt == nil || known.ModifiedAt == nil {
		return t
	}
	return *known.ModifiedAt
}

func modifiedTime(fields map[string]json.RawMessage) time.Time {
	var text string
	if json.Unmarshal(fields["Modified_Time"], &text) != nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, strings.TrimSpace(text))
	if err != nil || t.Year() < 2000 {
		return time.Time{}
	}
	return t.UTC()
}

// decode keeps numbers as they are written: ids are greater than a float can
// hold. Nothing, and what is no JSON, is nil.
func decode(raw json.RawMessage) any {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var value any
	if d.Decode(&value) != nil {
		return nil
	}
	return value
}

// equal compares decoded values by what they mean: 1.0 is 1, the order of keys
// does not matter, null is as good as absent, and a time is the same wherever the
// clock stands that it is read from.
func equal(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		return ok && canonical(a.String()) == canonical(b.String())
	case string:
		b, ok := b.(string)
		return ok && (a == b || sameTime(a, b))
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			return false
		}
		for name, value := range a {
			if !equal(value, b[name]) {
				return false
			}
		}
		for name, value := range b {
			if _, both := a[name]; !both && value != nil {
				return false
			}
		}
		return true
	default:
		return a == b
	}
}

// keptCut reports whether what we know may be no more than the list's beginning of a
// text: when many came at a time not all of them were read whole.
func keptCut(known, listed any) bool {
	was, _ := known.(string)
	is, ok := listed.(string)
	return ok && was == is && zoho.MayBeCut(is)
}

// cutFrom reports whether a listed text may be the beginning of the one we know.
func cutFrom(known, listed any) bool {
	whole, _ := known.(string)
	text, ok := listed.(string)
	return ok && zoho.MayBeCut(text) && strings.HasPrefix(whole, text)
}

func sameTime(a, b string) bool {
	at, err := time.Parse(time.RFC3339, a)
	if err != nil {
		return false
	}
	bt, err := time.Parse(time.RFC3339, b)
	return err == nil && at.Equal(bt)
}

// canonical writes a JSON number in one way: digits without zeros at their ends,
// and the power of ten they are multiplied by.
func canonical(number string) string {
	sign := ""
	digits, negative := strings.CutPrefix(number, "-")
	if negative {
		sign = "-"
	}
	exponent := 0
	if i := strings.IndexAny(digits, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.Atoi(strings.TrimPrefix(digits[i+1:], "+")); err != nil {
			return number
		}
		digits = digits[:i]
	}
	whole, fraction, _ := strings.Cut(digits, ".")
	digits = strings.TrimLeft(whole+fraction, "0")
	exponent -= len(fraction)
	short := strings.TrimRight(digits, "0")
	exponent += len(digits) - len(short)
	if short == "" {
		return "0"
	}
	return sign + short + "e" + strconv.Itoa(exponent)
}

// byID orders ids as Zoho does: they are digits, and greater than any number of ours.
func byID(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }
