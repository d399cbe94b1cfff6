package memory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
)

// Row is a memory as it is stored and shown.
type Row struct {
	ID       uuid.UUID      `json:"id"`
	UserID   string         `json:"user_id"`
	Kind     string         `json:"kind"`
	Content  string         `json:"content"`
	Metadata map[string]any `json:"metadata"` // numbers are json.Number
	// AccountID is the account it is about, "" for none.
	AccountID string `json:"account_id,omitempty"`
	// Module and RecordID name the record it was made of; "" when it was not.
	Module   string `json:"module,omitempty"`
	RecordID string `json:"record_id,omitempty"`
	// Origin and OriginID say which memory system told of it, and under which id.
	Origin    string     `json:"origin,omitempty"`
	OriginID  string     `json:"origin_id,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	UpdatedAt time.Time  `json:"updated_at"`
}

// FromCRM reports whether the memory follows a record: then the record is what is
// true, and nobody else changes it.
func (r Row) FromCRM() bool { return r.Module != "" }

// Memory is what a reader sees of it.
func (r Row) Memory() Memory {
	return Memory{UserID: r.UserID, Kind: r.Kind, Content: r.Content, Metadata: r.Metadata}
}

// Checksum is that of its Memory.
func (r Row) Checksum() [32]byte { return r.Memory().Checksum() }

// Snapshot is the memory inside a webhook.
func (r Row) Snapshot() Snapshot {
	return Snapshot{ID: r.ID, Content: r.Content, Metadata: r.Metadata}
}

// ReadMetadata reads metadata as a database keeps it, numbers as they are written:
// ids are greater than a float can hold.
func ReadMetadata(raw []byte) (map[string]any, error) {
	metadata, ok := decode(raw).(map[string]any)
	if !ok {
		return nil, fmt.Errorf("read metadata: no JSON object")
	}
	return metadata, nil
}

func writeMetadata(metadata map[string]any) ([]byte, error) {
	if metadata == nil {
		return []byte("{}"), nil
	}
	text, err := json.Marshal(metadata)
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	return text, nil
}

// rowFrom reads a memory as the database returns it.
func rowFrom(r db.GetMemoryRow) (Row, error) {
	metadata, err := ReadMetadata(r.Metadata)
	if err != nil {
		return Row{}, fmt.Errorf("memory %s: %w", r.ID, err)
	}
	return Row{
		ID: r.ID, UserID: r.UserID, Kind: r.Kind, Content: r.Content, Metadata: metadata,
		AccountID: orEmpty(r.AccountID), Module: orEmpty(r.Module), RecordID: orEmpty(r.RecordID),
		Origin: orEmpty(r.Origin), OriginID: orEmpty(r.OriginID),
		ExpiresAt: inUTC(r.ExpiresAt), CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}, nil
}

func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	utc := t.UTC()
	return &utc
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func orNil(id *uuid.UUID) uuid.UUID {
	if id == nil {
		return uuid.Nil
	}
	return *id
}

// roundConfidence makes of 0.8 that was stored with a float32's precision 0.8 again.
func roundConfidence(v float32) float64 {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
	return rounded
}

func sameJSON(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}
