package localpg

import (
	"os"
	"syscall"
)

const (
	// memory is a file system in main memory that every Linux has.
	memory = "/dev/shm"

	// enough is well above the 64 MiB that a container has there by default.
	enough = 2 << 30

	mayWriteAndEnter = 2 | 1
)

// ThrowawayHome returns a folder to make a throwaway server's own folder in: in
// main memory if there is room, else the one for temporary files. A cluster is
// about a thousand files and each database over 300 more, and making files is nearly
// all that a test database costs: 11 ms in memory, 350 ms on the slow disk of a
// small virtual machine.
func ThrowawayHome() string {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memory, &fs); err != nil || fs.Blocks*uint64(fs.Bsize) < enough {
		return os.TempDir()
	}
	if syscall.Access(memory, mayWriteAndEnter) != nil {
		return os.TempDir()
	}
	return memory
}
