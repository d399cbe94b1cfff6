//go:build !unix

package localpg

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
)

// account is who the server runs as; here it never gets that far.
type account struct{ name string }

func serverUser(func(string) string) (account, error) {
	return account{}, fmt.Errorf("start a private postgres on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func (account) attributes(bool) *syscall.SysProcAttr { return nil }

func (account) trusts(string) error { return errors.ErrUnsupported }

func (account) makeOwn(string) error { return errors.ErrUnsupported }
