//go:build unix

package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// A fileLock is one holder's hold on a lock file. The system releases it when
// the process ends, however it ends; children do not inherit it.
type fileLock struct{ f *os.File }

func openLock(file string) (fileLock, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fileLock{}, fmt.Errorf("open lock file: %w", err)
	}
	return fileLock{f}, nil
}

// tryExclusive reports whether l is now held by nobody else, not even shared.
// When it is not, l may hold nothing any more: the system gives up a shared
// hold while it tries.
func (l fileLock) tryExclusive() (bool, error) {
	err := syscall.Flock(int(l.f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", l.f.Name(), err)
	}
	return true, nil
}

// share takes l together with others who share it, or turns an exclusive hold
// into a shared one. It waits while somebody holds l exclusively.
func (l fileLock) share() error {
	if err := syscall.Flock(int(l.f.Fd()), syscall.LOCK_SH); err != nil {
		return fmt.Errorf("share %s: %w", l.f.Name(), err)
	}
	return nil
}

// Closing a file that was only locked loses nothing.
func (l fileLock) release() { _ = l.f.Close() }

// lock waits until it holds the file alone. It asks instead of blocking, so
// that ctx can end it.
func lock(ctx context.Context, file string) (unlock func(), err error) {
	l, err := openLock(file)
	if err != nil {
		return nil, err
	}
	if err := poll(ctx, l.tryExclusive); err != nil {
		l.release()
		return nil, fmt.Errorf("wait for %s: %w", file, err)
	}
	return l.release, nil
}
