package inbound

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// BenchmarkDoor is all the work on a body before the database: verify, parse,
// digest and the id of each event. The aim is under 15 µs for a record of 1 KB.
func BenchmarkDoor(b *testing.B) {
	record := func(n int) string {
		return fmt.Sprintf(`{"id":"57257670000005%05d","Account_Name":"Example %d","Modified_Time":"2026-08-01T10:00:00+02:00","Owner":{"id":"5725767000000411001","name":"Owner"},"Annual_Revenue":125000.5,"Description":"%s"}`,
			n, n, strings.Repeat(`twenty bytes \"here\"`, 36))
	}
	records := make([]string, 1000)
	for i := range records {
		records[i] = record(i)
	}
	for _, bm := range []struct{ name, body string }{
		{"record form of 1 KB", `{"operation":"update","module":"Accounts","data":[` + record(1) + `],"modified_fields":["Account_Name"],"user":{"id":"5725767000000411001"}}`},
		{"notification of 1 KB", `{"server_time":1718117126473,"affected_values":[{"record_id":"5725767000000524157","values":{"Description":"` + strings.Repeat("twenty bytes of text", 33) + `"}}],"query_params":{},"module":"Accounts","resource_uri":"https://www.zohoapis.com/crm/v2/Accounts","ids":["5725767000000524157"],"affected_fields":[{"5725767000000524157":["Description"]}],"operation":"update","channel_id":"1000000068001","token":"a token of a channel"}`},
		{"record form of 1000 records", `{"operation":"update","data":[` + strings.Join(records, ",") + `]}`},
	} {
		b.Run(bm.name, func(b *testing.B) {
			body := []byte(bm.body)
			secrets := []string{"a secret for the benchmark"}
			mac := hmac.New(sha256.New, []byte(secrets[0]))
			mac.Write(body)
			header := "sha256=" + hex.EncodeToString(mac.Sum(nil))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if !verifySignature(secrets, header, body) {
					b.Fatal("signature not accepted")
				}
				n, err := parse("application/json", body, 1000)
				if err != nil {
					b.Fatal(err)
				}
				sum := digest(body)
				for i, occurrence := range occurrences(n.Events) {
					derivedID(n, n.Events[i], sum, "", occurrence)
				}
			}
		})
	}
}

func BenchmarkVerifySignature(b *testing.B) {
	body := []byte(strings.Repeat("x", 1024))
	b.ReportAllocs()
	for b.Loop() {
		verifySignature([]string{"a secret for the benchmark"}, strings.Repeat("0", 64), body)
	}
}

func BenchmarkParse(b *testing.B) {
	body := []byte(`{"operation":"update","module":"Accounts","data":[{"id":"5725767000000524157","Description":"` + strings.Repeat("x", 900) + `"}]}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse("application/json", body, 1000); err != nil {
			b.Fatal(err)
		}
	}
}
