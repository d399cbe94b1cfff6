package endpoint

import (
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/seal"
)

// sealedCredentials are Credentials as they are sealed: the one encoding that holds
// the secrets.
type sealedCredentials struct {
	Keys    []Key             `json:"keys"`
	Auth    Auth              `json:"auth"`
	Headers map[string]string `json:"headers"`
}

// about is what the credentials of an endpoint are sealed about: moved to the row of
// another one they are worth nothing.
func about(id uuid.UUID) string { return "endpoints/" + id.String() + "/credentials" }

// Open returns the credentials of an endpoint, from its row; of nil there are none.
// The error is that of the Box: seal.ErrNoKey or seal.ErrWrongKey.
func Open(box *seal.Box, id uuid.UUID, sealed []byte) (Credentials, error) {
	if sealed == nil {
		return Credentials{}, nil
	}
	plain, err := box.Open(sealed, about(id))
	if err != nil {
		return Credentials{}, fmt.Errorf("open the credentials of endpoint %s: %w", id, err)
	}
	var c sealedCredentials
	if err := json.Unmarshal(plain, &c); err != nil {
		// The text of the error may quote a secret.
		return Credentials{}, fmt.Errorf("read the credentials of endpoint %s: they are not what this version seals", id)
	}
	return Credentials(c), nil
}

// sealFor seals the credentials of an endpoint; none are nil, for which no key is needed.
func (c Credentials) sealFor(box *seal.Box, id uuid.UUID) ([]byte, error) {
	if c.empty() {
		return nil, nil
	}
	plain, err := json.Marshal(sealedCredentials(c))
	if err != nil {
		return nil, fmt.Errorf("encode the credentials of endpoint %s: %w", id, err)
	}
	sealed, err := box.Seal(plain, about(id))
	if err != nil {
		return nil, fmt.Errorf("seal the credentials of endpoint %s: %w", id, err)
	}
	return sealed, nil
}

func (c Credentials) empty() bool {
	return len(c.Keys) == 0 && len(c.Headers) == 0 &&
		c.Auth.Kind == AuthNone && c.Auth.Certificate == "" && c.Auth.Authorities == ""
}
