package localpg

import (
	"context"
	"path/filepath"
)

// Join is Start for several processes that share one server: the first in
// starts it and the last out stops it. leave must be called in the end; a
// process that is killed has left, too, but stops nothing, and then the next
// Join takes the server over. tidy, if not nil, runs when the caller is the
// only user, before anybody else can join: the moment to clear up what killed
// processes left behind.
func Join(ctx context.Context, o Options, tidy func(context.Context, *Server) error) (s *Server, leave func(context.Context) error, err error) {
	home, err := makeHome(o.Dir)
	if err != nil {
		return nil, nil, err
	}
	// Joining and leaving happen one at a time, so nobody comes in while the
	// last one is stopping the server.
	turn := filepath.Join(home, "join.lock")
	unlock, err := lock(ctx, turn)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()

	users, err := openLock(filepath.Join(home, "users.lock"))
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			users.release()
		}
	}()
	alone, err := users.tryExclusive()
	if err != nil {
		return nil, nil, err
	}
	if s, err = Start(ctx, o); err != nil {
		return nil, nil, err
	}
	if alone && tidy != nil {
		if err = tidy(ctx, s); err != nil {
			return nil, nil, err
		}
	}
	if err = users.share(); err != nil {
		return nil, nil, err
	}

	leave = func(ctx context.Context) error {
		unlock, err := lock(ctx, turn)
		if err != nil {
			return err
		}
		defer unlock()
		defer users.release()
		if last, err := users.tryExclusive(); err != nil || !last {
			return err
		}
		return s.Stop(ctx)
	}
	return s, leave, nil
}
