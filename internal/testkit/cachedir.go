package testkit

import "testing"

// UseCacheDir makes dir the user's cache directory until the test ends, on any
// system; "" leaves none.
func UseCacheDir(t testing.TB, dir string) {
	t.Helper()
	for _, name := range []string{"XDG_CACHE_HOME", "LocalAppData", "HOME"} {
		t.Setenv(name, dir)
	}
}
