//go:build !linux

package localpg

import "os"

// ThrowawayHome returns a folder to make a throwaway server's own folder in:
// the one for temporary files.
func ThrowawayHome() string { return os.TempDir() }
