package inbound

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// An event id is at most 540 bytes long: the header and the record id are at
// most maxName each, and what is put between and behind them is short.

// digest returns the SHA-256 of the body as it came. Two bodies are the same
// when their digests are.
func digest(body []byte) [32]byte {
	return sha256.Sum256(body)
}

// headerIDs returns the event ids that header, the value of X-Zoho-Event-Id,
// gives to the events of a body: itself when there is one event, with
// ":<record id>" appended when there are several, and with ":2", ":3" and so on
// after that when a record comes again. They differ from each other. Without a
// header there are none, and the caller derives them.
//
// The error is a refusal: 422 id_too_long for more than 255 bytes, 400
// invalid_event_id for what is not UTF-8 or holds a control character.
func headerIDs(header string, events []Parsed) ([]string, error) {
	switch {
	case header == "":
		return nil, nil
	case len(header) > maxName:
		return nil, refuse(422, "id_too_long", "X-Zoho-Event-Id is longer than %d bytes", maxName)
	case !utf8.ValidString(header) || strings.ContainsFunc(header, unicode.IsControl):
		return nil, refuse(400, "invalid_event_id", "X-Zoho-Event-Id is not UTF-8 or holds a control character")
	case len(events) == 1:
		return []string{header}, nil
	}
	ids := make([]string, len(events))
	taken := make(map[string]bool, len(events))
	for i, n := range occurrences(events) {
		base := header + ":" + events[i].RecordID
		ids[i] = nth(base, n)
		// The second "7" and the first "7:2" would be the same, and the later
		// one would be lost as a repeat.
		for ; taken[ids[i]]; n++ {
			ids[i] = nth(base, n+1)
		}
		taken[ids[i]] = true
	}
	return ids, nil
}

// occurrences says of each event the how manyth of its record it is in the body:
// 1 for the first.
func occurrences(events []Parsed) []int {
	counts := make([]int, len(events))
	seen := make(map[string]int, len(events))
	for i, p := range events {
		seen[p.RecordID]++
		counts[i] = seen[p.RecordID]
	}
	return counts
}

// nth returns the id of the n-th event of a record in one body.
func nth(id string, n int) string {
	if n <= 1 {
		return id
	}
	return id + ":" + strconv.Itoa(n)
}

// derivedID returns the id of an event whose sender gave none, so that a
// redelivery has the id of the first delivery.
//
// Where the body says when, the id follows from channel, module, operation,
// record and that time. Where it does not, time is replaced by the digest of
// the body and by previous, the id of the newest stored event of the record
// with a different body, "" when there is none: the same body again is a
// redelivery, but a return to it after another body is a change. The caller
// looks previous up and stores the event in one transaction, one at a time
// per record. A redelivery that arrives after another body is taken for a
// change; nothing in it says otherwise.
//
// occurrence is that of occurrences. The prefix names the recipe: whoever
// changes it writes d2, or what came before is taken for new.
func derivedID(n Notification, p Parsed, digest [32]byte, previous string, occurrence int) string {
	recipe := make([]byte, 0, 512)
	for _, part := range []string{n.ChannelID, p.Module, p.Operation, p.RecordID} {
		recipe = appendPart(recipe, part)
	}
	if p.OccurredAt.IsZero() {
		recipe = append(recipe, 'b')
		recipe = append(recipe, digest[:]...)
		recipe = appendPart(recipe, previous)
	} else {
		recipe = append(recipe, 't')
		recipe = binary.BigEndian.AppendUint64(recipe, uint64(p.OccurredAt.UnixMilli()))
	}
	sum := sha256.Sum256(recipe)
	return nth("d1-"+hex.EncodeToString(sum[:16]), occurrence)
}

// appendPart appends part and its length before it: "ab","c" is not "a","bc".
func appendPart(recipe []byte, part string) []byte {
	recipe = binary.AppendUvarint(recipe, uint64(len(part)))
	return append(recipe, part...)
}

// reusedID returns the id under which an event is stored whose own id belongs
// to an event with another body already.
func reusedID(id string, digest [32]byte) string {
	return id + "#" + hex.EncodeToString(digest[:8])
}
