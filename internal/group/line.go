package group

import "slices"

// line is where units wait. Those of one key stand one behind the other in a queue,
// and the queues take turns: a key that hands over more than the others waits for
// itself alone.
type line[T, R any] struct {
	queues map[string]*queue[T, R] // of every key ever seen: they are few
	turns  []*queue[T, R]          // those in which units wait, whose turn is next first
	units  int
	bytes  int
}

// queue holds the units of one key, in order of arrival.
type queue[T, R any] struct {
	units []*unit[T, R] // from head on
	head  int
	bytes int
}

func (q *queue[T, R]) waiting() []*unit[T, R] { return q.units[q.head:] }

func (l *line[T, R]) queue(key string) *queue[T, R] {
	q := l.queues[key]
	if q == nil {
		q = &queue[T, R]{}
		l.queues[key] = q
	}
	return q
}

// add puts u into its queue: before all that came after it, which is at the end for
// one that was not held. Just the head would turn around two that were held one after
// the other.
func (l *line[T, R]) add(u *unit[T, R]) {
	q := u.queue
	if len(q.waiting()) == 0 {
		l.turns = append(l.turns, q)
	}
	// Room that groups have left is used again before more is taken.
	if q.head > len(q.units)/2 && len(q.units) == cap(q.units) {
		n := copy(q.units, q.waiting())
		clear(q.units[n:])
		q.units, q.head = q.units[:n], 0
	}
	at := len(q.units)
	for at > q.head && q.units[at-1].number > u.number {
		at--
	}
	q.units = slices.Insert(q.units, at, u)
	q.bytes += u.size
	l.units++
	l.bytes += u.size
}

// remove takes u out of its queue, and reports whether it was there.
func (l *line[T, R]) remove(u *unit[T, R]) bool {
	q := u.queue
	i := slices.Index(q.waiting(), u)
	if i < 0 {
		return false
	}
	q.units = slices.Delete(q.units, q.head+i, q.head+i+1)
	l.lighten(u)
	if len(q.waiting()) == 0 {
		turn := slices.Index(l.turns, q)
		l.turns = slices.Delete(l.turns, turn, turn+1)
	}
	return true
}

// take takes a group off the line, one unit of each queue in turn. A unit that is too
// great for what room is left has its queue sit out: it is the first of the next group,
// so that those of others neither wait for it nor keep it waiting.
func (l *line[T, R]) take(maxUnits, maxBytes int) []*unit[T, R] {
	group := make([]*unit[T, R], 0, min(maxUnits, l.units))
	bytes := 0
	var sitOut []*queue[T, R]
	for len(group) < maxUnits && len(l.turns) > 0 {
		q := l.turns[0]
		u := q.units[q.head]
		if len(group) > 0 && bytes+u.size > maxBytes {
			sitOut = append(sitOut, q)
			l.turns = slices.Delete(l.turns, 0, 1)
			continue
		}
		bytes += u.size
		group = append(group, u)
		l.shift(q)
	}
	if len(sitOut) > 0 {
		l.turns = slices.Insert(l.turns, 0, sitOut...)
	}
	return group
}

// shift takes the first unit off q, whose turn it is; the next queue's turn follows.
func (l *line[T, R]) shift(q *queue[T, R]) {
	l.lighten(q.units[q.head])
	q.units[q.head] = nil
	q.head++
	copy(l.turns, l.turns[1:])
	if q.head < len(q.units) {
		l.turns[len(l.turns)-1] = q
		return
	}
	q.units, q.head = q.units[:0], 0
	l.turns[len(l.turns)-1] = nil
	l.turns = l.turns[:len(l.turns)-1]
}

func (l *line[T, R]) lighten(u *unit[T, R]) {
	u.queue.bytes -= u.size
	l.units--
	l.bytes -= u.size
}

// full reports whether there is no room for u. In an empty line there is for any unit:
// one greater than the line would otherwise never be taken.
func (l *line[T, R]) full(u *unit[T, R], o Options) bool {
	return l.units >= o.Line || (l.units > 0 && l.bytes+u.size > o.LineBytes)
}

// giveWay takes out the newest unit of the key that holds most of the line, so that
// there is room for u: nil when no other key holds more than that of u would.
func (l *line[T, R]) giveWay(u *unit[T, R], o Options) *unit[T, R] {
	share := func(units, bytes int) float64 {
		return max(float64(units)/float64(o.Line), float64(bytes)/float64(o.LineBytes))
	}
	most := share(len(u.queue.waiting())+1, u.queue.bytes+u.size)
	var greatest *queue[T, R]
	for _, q := range l.turns {
		if s := share(len(q.waiting()), q.bytes); q != u.queue && s > most {
			most, greatest = s, q
		}
	}
	if greatest == nil {
		return nil
	}
	newest := greatest.units[len(greatest.units)-1]
	l.remove(newest)
	return newest
}
