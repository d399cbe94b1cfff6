package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// requests are made and signed before a measurement begins. They lie in one piece,
// so that the garbage collector has nothing to look at.
type requests struct {
	slab []byte
	ends []int
	// first is the number of the first one: what it tells of can be found again by it.
	first int64
}

func (r requests) len() int { return len(r.ends) }

func (r requests) at(i int) []byte {
	from := 0
	if i > 0 {
		from = r.ends[i-1]
	}
	return r.slab[from:r.ends[i]]
}

const secret = "bench"

// mark is by what a record, and whatever is told of it, is found again.
const mark = "bench#"

// numbers gives every request of a run a number of its own.
func (b *bench) numbers(n int) (first int64) {
	first = b.next + 1
	b.next += int64(n)
	return first
}

// webhooks are n events, each signed and of another contact, of 5,000 accounts.
func (b *bench) webhooks(n int) requests {
	return b.signed(n, func(n int64) []byte {
		return fmt.Appendf(nil, `{"operation":"update","module":"Contacts","data":[{"id":"57257670000%d","First_Name":"Jane","Last_Name":"Doe %d","Email":"jane%d@example.com","Phone":"+49 30 5550 %d","Title":"Head of Purchasing","Mailing_City":"Berlin","Description":"`+mark+`%d wants the offer by the end of the month, a call before it.","Account_Name":{"id":"57257670001%d","name":"Example %d"}}],"user":{"id":"5725767000000411001"}}`,
			n, n, n, n, n, n%5000, n%5000)
	})
}

// touches are events of records that Zoho has: each says no more than that one was changed.
func (b *bench) touches(ids []string) requests {
	first := b.next + 1
	return b.signed(len(ids), func(n int64) []byte {
		return fmt.Appendf(nil, `{"operation":"update","module":"Contacts","data":[{"id":%q}],"modified_fields":["Title"],"user":{"id":"5725767000000411001"}}`, ids[n-first])
	})
}

func (b *bench) signed(n int, body func(n int64) []byte) requests {
	r := requests{first: b.numbers(n), ends: make([]int, 0, n)}
	mac := hmac.New(sha256.New, []byte(secret))
	for i := range int64(n) {
		text := body(r.first + i)
		mac.Reset()
		mac.Write(text)
		r.slab = fmt.Appendf(r.slab, "POST /webhooks/zoho HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Zoho-Event-Id: bench-%d\r\nX-Zoho-Signature: %s\r\nContent-Length: %d\r\n\r\n",
			r.first+i, hex.EncodeToString(mac.Sum(nil)), len(text))
		r.slab = append(r.slab, text...)
		r.ends = append(r.ends, len(r.slab))
	}
	return r
}

// thoughts are n memories that agents store, of 500 users.
func (b *bench) thoughts(n int, token string) requests {
	r := requests{first: b.numbers(n), ends: make([]int, 0, n)}
	for i := range int64(n) {
		text := fmt.Appendf(nil, `{"user_id":"user-%d","content":"`+mark+`%d prefers calls in the morning and offers by mail, in English","metadata":{"topic":"support"}}`, (r.first+i)%500, r.first+i)
		r.slab = fmt.Appendf(r.slab, "POST /v1/memories HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", token, len(text))
		r.slab = append(r.slab, text...)
		r.ends = append(r.ends, len(r.slab))
	}
	return r
}
