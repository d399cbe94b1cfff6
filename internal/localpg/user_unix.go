//go:build unix

package localpg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// account is who the server runs as.
type account struct {
	name     string
	uid, gid uint32
	other    bool // somebody else than this process
}

// serverUser is whoever runs this process. Postgres refuses to be root, so for
// root it is the user Postgres was installed with, or who called sudo, or nobody.
func serverUser(getenv func(string) string) (account, error) {
	if uid := os.Getuid(); uid != 0 {
		return account{name: strconv.Itoa(uid), uid: uint32(uid), gid: uint32(os.Getgid())}, nil
	}
	for _, name := range []string{"postgres", "_postgres", getenv("SUDO_USER"), "nobody"} {
		u, err := user.Lookup(name)
		if err != nil || u.Uid == "0" {
			continue
		}
		uid, err1 := strconv.ParseInt(u.Uid, 10, 64)
		gid, err2 := strconv.ParseInt(u.Gid, 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return account{}, fmt.Errorf("read the ids of user %s: %w", name, err)
		}
		return account{name: name, uid: uint32(uid), gid: uint32(gid), other: true}, nil
	}
	return account{}, errors.New("postgres does not run as root, and there is no user postgres or nobody to run it as")
}

// attributes make a command run as a, in a process group of its own if asked.
func (a account) attributes(ownGroup bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: ownGroup}
	if a.other {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}

// trusts is an error when somebody else owns dir and could swap what lies in it.
func (a account) trusts(dir string) error {
	owner, err := ownerOf(dir)
	if err != nil {
		return err
	}
	if owner != 0 && owner != a.uid && owner != uint32(os.Getuid()) {
		return fmt.Errorf("%s belongs to another user: choose a folder of your own", dir)
	}
	return nil
}

// makeOwn makes a folder that is a's and closed to others. One that is there
// must be a's: under /tmp anybody could have put it.
func (a account) makeOwn(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if err == nil && a.other {
		err = os.Chown(dir, int(a.uid), int(a.gid))
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the database's folder: %w", err)
	}
	if owner, err := ownerOf(dir); err != nil || owner != a.uid {
		return errors.Join(fmt.Errorf("%s is not a folder of user %s, who runs the database", dir, a.name), err)
	}
	return nil
}

// ownerOf does not follow a link: whoever made it could change it.
func ownerOf(dir string) (uint32, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return 0, fmt.Errorf("look at the database's folder: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() {
		return 0, fmt.Errorf("%s is not a folder", dir)
	}
	return stat.Uid, nil
}
