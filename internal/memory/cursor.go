package memory

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// A cursor is a user's mark, the time of a memory in microseconds, and its id.
const (
	cursorMark   = 8
	cursorLength = cursorMark + 8 + 16
)

// writeCursor names a memory in a list of a user.
func writeCursor(userID string, at time.Time, id uuid.UUID) string {
	raw := make([]byte, 0, cursorLength)
	raw = append(raw, markOf(userID)...)
	raw = binary.BigEndian.AppendUint64(raw, uint64(at.UnixMicro())) //nolint:gosec // read back as it was written
	raw = append(raw, id[:]...)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// readCursor returns an *Invalid for what writeCursor did not write for this user.
func readCursor(cursor, userID string) (time.Time, uuid.UUID, error) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(raw) != cursorLength || !bytes.Equal(raw[:cursorMark], markOf(userID)) {
		return time.Time{}, uuid.UUID{}, invalid("cursor", "want next_cursor of the page before, of the same user_id")
	}
	at := time.UnixMicro(int64(binary.BigEndian.Uint64(raw[cursorMark:]))) //nolint:gosec // as it was written
	if at.Year() < 2000 || at.Year() > 9999 {
		return time.Time{}, uuid.UUID{}, invalid("cursor", "want next_cursor of the page before")
	}
	return at, uuid.UUID(raw[cursorMark+8:]), nil
}

// markOf tells a user's cursors from another's.
func markOf(userID string) []byte {
	sum := sha256.Sum256([]byte("memories of " + userID))
	return sum[:cursorMark]
}
