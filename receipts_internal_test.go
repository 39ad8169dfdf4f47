package crosscomm

import (
	"reflect"
	"testing"
)

// A report that is written as usual is read as any other.
func TestUsualReport(t *testing.T) {
	for content, usual := range map[string]bool{
		`{"received":1,"handled":[[1,1]]}`:                     true,
		`{"received":1234567890123456789,"handled":[[8,90]]}`:  true,
		`{"received":18446744073709551615,"handled":[[8,90]]}`: false, // has more digits
		`{"received":7}`:                                           false,
		`{"received":7,"handled":[[1,2],[4,5]]}`:                   false,
		`{"received":7,"handled":[[1, 2]]}`:                        false,
		`{"received":0,"handled":[[1,2]]}`:                         false,
		`{"handled":[[1,2]],"received":7}`:                         false,
		`{"received":7,"handled":[[1,2]],"handled":[[3,4]]}`:       false,
		`{"received":7,"handled":[[1,2]],"failed":[[3,"x","no"]]}`: false,
		`{"received":-7,"handled":[[1,2]]}`:                        false,
		`{"received":1.5,"handled":[[1,2]]}`:                       false,
		`{"received":7,"handled":[[1,2]`:                           false,
		`[]`:                                                       false,
	} {
		got, ok := parseUsualReport([]byte(content))
		if ok != usual {
			t.Errorf("%s is usual: %v", content, ok)
		}
		want, err := parseAnyReport([]byte(content))
		if ok && (err != nil || !reflect.DeepEqual(got, want)) {
			t.Errorf("%s: got %+v, want %+v, %v", content, got, want, err)
		}
		if got, gotErr := parseReport([]byte(content)); !reflect.DeepEqual(got, want) || (gotErr == nil) != (err == nil) {
			t.Errorf("%s: got %+v, %v, want %+v, %v", content, got, gotErr, want, err)
		}
	}
}

// A mailbox is looked at until its letters are on disk: saving them may fail, however
// long it takes.
func TestWatchedUntilSaved(t *testing.T) {
	l := &letter{keep: true, saving: true, sent: true}
	b := &mailbox{office: &deliveries{hub: newHub(&Service{})}, watched: true}
	b.letters.Push(sentLetter{letter: l, number: 1})
	if !b.spill() || !b.watched {
		t.Error("nobody looks at a letter that is being saved")
	}
	l.saved = true
	if b.spill() || b.watched {
		t.Error("one that is saved is still looked at")
	}
}
