//go:build linux || darwin

package doctor

import (
	"fmt"
	"syscall"
)

// FreeSpace returns how many bytes are free, to others than root, and how many there
// are on the disk where path lies.
func FreeSpace(path string) (free, all uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, 0, fmt.Errorf("look at the disk of %s: %w", path, err)
	}
	block := uint64(s.Bsize) //nolint:gosec // a block's size is positive; its type differs between systems
	return uint64(s.Bavail) * block, uint64(s.Blocks) * block, nil
}
