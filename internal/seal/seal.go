// Package seal keeps secrets that stand in the database from whoever only has the
// database. In go a secret and what it is about, out come bytes that only a
// holder of the key opens, and only as what they were sealed for.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Errors that callers branch on.
var (
	// ErrNoKey is returned by a Box without keys.
	ErrNoKey = errors.New("there is no key to seal secrets with: set MEMRELAY_KEY (`memrelay secret` makes one)")
	// ErrWrongKey is returned for what no key of the Box opens: another key sealed
	// it, it is damaged, or it was sealed about something else.
	ErrWrongKey = errors.New("no key of MEMRELAY_KEY opens this secret")
)

// LeastKey is the length of the shortest text that is taken for a key, in bytes.
const LeastKey = 16

// What is sealed is a version, the key's id, a nonce, and AES-256-GCM's output:
// the ciphertext and 16 bytes that prove it, the two first parts and what it is
// about.
const (
	version     = 1
	idSize      = 4
	nonceSize   = 12
	headSize    = 1 + idSize
	derivation  = "memrelay seal 1: "
	keySize     = 32
	prefixSize  = headSize + nonceSize
	paddingSize = 16
)

// Box seals and opens. It is safe for concurrent use if its randomness is.
type Box struct {
	keys   []key
	random io.Reader
}

type key struct {
	id   [idSize]byte
	aead cipher.AEAD
}

// New makes a Box: the first key seals, all open, so that a key is replaced by
// putting a new one before it. A key is any text of at least LeastKey bytes that
// nobody can guess: it is not stretched as a password would be. Without keys the
// Box is a valid one whose methods return ErrNoKey. random is asked for a nonce
// by each Seal: crypto/rand's Reader.
func New(keys []string, random io.Reader) (*Box, error) {
	b := &Box{random: random}
	for _, text := range keys {
		if len(text) < LeastKey {
			return nil, fmt.Errorf("a key has %d characters, want at least %d", len(text), LeastKey)
		}
		k, err := derive(text)
		if err != nil {
			return nil, err
		}
		b.keys = append(b.keys, k)
	}
	return b, nil
}

func derive(text string) (key, error) {
	var k key
	secret, err := hkdf.Key(sha256.New, []byte(text), nil, derivation+"key", keySize)
	if err != nil {
		return k, fmt.Errorf("derive a key: %w", err)
	}
	id, err := hkdf.Key(sha256.New, []byte(text), nil, derivation+"id", idSize)
	if err != nil {
		return k, fmt.Errorf("derive a key's id: %w", err)
	}
	copy(k.id[:], id)
	block, err := aes.NewCipher(secret)
	if err != nil {
		return k, fmt.Errorf("make a cipher: %w", err)
	}
	k.aead, err = cipher.NewGCM(block)
	if err != nil {
		return k, fmt.Errorf("make a cipher: %w", err)
	}
	return k, nil
}

// HasKey reports whether the Box can seal.
func (b *Box) HasKey() bool { return len(b.keys) > 0 }

// Seal seals plain with the first key. about says what it is, as
// "zoho_tokens/zoho/refresh_token": only who says the same opens it, so that a
// value moved to another row is worth nothing there. The same twice gives
// different bytes. The error is ErrNoKey, or the randomness's.
func (b *Box) Seal(plain []byte, about string) ([]byte, error) {
	if !b.HasKey() {
		return nil, ErrNoKey
	}
	k := b.keys[0]
	sealed := make([]byte, prefixSize, prefixSize+len(plain)+paddingSize)
	sealed[0] = version
	copy(sealed[1:], k.id[:])
	nonce := sealed[headSize:prefixSize]
	if _, err := io.ReadFull(b.random, nonce); err != nil {
		return nil, fmt.Errorf("read a nonce: %w", err)
	}
	return k.aead.Seal(sealed, nonce, plain, proven(sealed, about)), nil
}

// Open returns what was sealed about the same. The error is ErrNoKey or ErrWrongKey.
func (b *Box) Open(sealed []byte, about string) ([]byte, error) {
	if !b.HasKey() {
		return nil, ErrNoKey
	}
	if len(sealed) < prefixSize+paddingSize || sealed[0] != version {
		return nil, fmt.Errorf("%w: it is not what this program seals", ErrWrongKey)
	}
	known := false
	for _, k := range b.keys {
		if !slices.Equal(sealed[1:headSize], k.id[:]) {
			continue
		}
		known = true
		if plain, err := k.aead.Open(nil, sealed[headSize:prefixSize], sealed[prefixSize:], proven(sealed, about)); err == nil {
			return plain, nil
		}
	}
	if known {
		return nil, fmt.Errorf("%w: it is damaged, or it was sealed for another place", ErrWrongKey)
	}
	return nil, ErrWrongKey
}

// proven is what is proven beside the secret: its head, and what it is about.
func proven(sealed []byte, about string) []byte {
	return append(slices.Clone(sealed[:headSize]), about...)
}
