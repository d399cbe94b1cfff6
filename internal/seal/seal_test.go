package seal_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/memrelay/memrelay/internal/seal"
)

const (
	oldKey = "the key of last year"
	newKey = "the key of this year"
	about  = "zoho_tokens/zoho/refresh_token"
	secret = "1000.refresh"
)

func box(t *testing.T, keys ...string) *seal.Box {
	t.Helper()
	b, err := seal.New(keys, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sealed(t *testing.T, b *seal.Box) []byte {
	t.Helper()
	s, err := b.Seal([]byte(secret), about)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhatOpens(t *testing.T) {
	t.Parallel()
	old := box(t, oldKey)
	for name, tc := range map[string]struct {
		box    *seal.Box
		change func([]byte) []byte
		about  string
		want   error
	}{
		"the same key":                        {box: box(t, oldKey), about: about},
		"a new key beside the old":            {box: box(t, newKey, oldKey), about: about},
		"a new key alone":                     {box: box(t, newKey), about: about, want: seal.ErrWrongKey},
		"no key":                              {box: box(t), about: about, want: seal.ErrNoKey},
		"moved to another column":             {box: old, about: "zoho_tokens/zoho/access_token", want: seal.ErrWrongKey},
		"moved where nothing is said":         {box: old, want: seal.ErrWrongKey},
		"a byte of the secret changed":        {box: old, about: about, want: seal.ErrWrongKey, change: flip(20)},
		"a byte of the nonce changed":         {box: old, about: about, want: seal.ErrWrongKey, change: flip(6)},
		"another key's id":                    {box: old, about: about, want: seal.ErrWrongKey, change: flip(1)},
		"another version":                     {box: old, about: about, want: seal.ErrWrongKey, change: flip(0)},
		"the end is missing":                  {box: old, about: about, want: seal.ErrWrongKey, change: func(s []byte) []byte { return s[:len(s)-1] }},
		"only a beginning":                    {box: old, about: about, want: seal.ErrWrongKey, change: func(s []byte) []byte { return s[:17] }},
		"nothing":                             {box: old, about: about, want: seal.ErrWrongKey, change: func([]byte) []byte { return nil }},
		"the secret as it is":                 {box: old, about: about, want: seal.ErrWrongKey, change: func([]byte) []byte { return []byte(strings.Repeat(secret, 9)) }},
		"what is about moved into the secret": {box: old, about: about[1:], want: seal.ErrWrongKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sealed(t, old)
			if tc.change != nil {
				s = tc.change(s)
			}
			plain, err := tc.box.Open(s, tc.about)
			if !errors.Is(err, tc.want) || (tc.want == nil && string(plain) != secret) || (tc.want != nil && plain != nil) {
				t.Errorf("opened %q, %v; want %v", plain, err, tc.want)
			}
		})
	}
}

func flip(at int) func([]byte) []byte {
	return func(s []byte) []byte {
		s[at] ^= 1
		return s
	}
}

func TestTheFirstKeySeals(t *testing.T) {
	t.Parallel()
	s := sealed(t, box(t, newKey, oldKey))
	if _, err := box(t, newKey).Open(s, about); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if _, err := box(t, oldKey).Open(s, about); !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("the old key opens what the new one sealed: %v", err)
	}
}

// Equal bytes would tell that two secrets are the same, and a nonce used twice
// tells more.
func TestTheSameSecretTwiceGivesDifferentBytes(t *testing.T) {
	t.Parallel()
	b := box(t, oldKey)
	first, second := sealed(t, b), sealed(t, b)
	if bytes.Equal(first, second) || bytes.Equal(first[5:17], second[5:17]) {
		t.Error("sealed the same twice")
	}
	if bytes.Contains(first, []byte(secret)) {
		t.Error("the secret can be read")
	}
}

// What stands in databases must be opened by every later version.
func TestTheFormStays(t *testing.T) {
	t.Parallel()
	fixed, err := seal.New([]string{oldKey}, strings.NewReader("twelve bytes"))
	if err != nil {
		t.Fatal(err)
	}
	s := sealed(t, fixed)
	const want = "01aa977d957477656c7665206279746573053d344d2698158cd4ee8f1b4d69d3091a230667714faff1eb857461"
	if got := hex.EncodeToString(s); got != want {
		t.Errorf("sealed as %s, want %s", got, want)
	}
}

func TestNoRandomnessNoSeal(t *testing.T) {
	t.Parallel()
	for _, random := range []io.Reader{iotest.ErrReader(io.ErrClosedPipe), strings.NewReader("short")} {
		b, err := seal.New([]string{oldKey}, random)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := b.Seal([]byte(secret), about); err == nil || s != nil {
			t.Errorf("sealed %x without randomness", s)
		}
	}
}

func TestKeysThatAreNone(t *testing.T) {
	t.Parallel()
	if _, err := seal.New([]string{oldKey, "too short"}, rand.Reader); err == nil || strings.Contains(err.Error(), "too short") {
		t.Errorf("error %v; want one that does not say the key", err)
	}
	b := box(t)
	if _, err := b.Seal([]byte(secret), about); !errors.Is(err, seal.ErrNoKey) || b.HasKey() {
		t.Errorf("a box without keys seals: %v", err)
	}
}
