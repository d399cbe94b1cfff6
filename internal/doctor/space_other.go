//go:build !linux && !darwin

package doctor

import "errors"

// FreeSpace knows nothing of disks here.
func FreeSpace(string) (free, all uint64, err error) { return 0, 0, errors.ErrUnsupported }
