package doctor

import (
	"testing"

	"github.com/memrelay/memrelay/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }
