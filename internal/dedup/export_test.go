package dedup

// Room returns for how many keys there is room.
func (w *Window[V]) Room() int { return len(w.slots) }
