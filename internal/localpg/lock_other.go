//go:build !unix

package localpg

import (
	"context"
	"errors"
)

type fileLock struct{}

func openLock(string) (fileLock, error) { return fileLock{}, errors.ErrUnsupported }

func (fileLock) tryExclusive() (bool, error) { return false, errors.ErrUnsupported }

func (fileLock) share() error { return errors.ErrUnsupported }

func (fileLock) release() {}

func lock(context.Context, string) (unlock func(), err error) { return nil, errors.ErrUnsupported }
