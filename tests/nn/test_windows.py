"""Windows over long sentences: every word piece is read where most is known around it."""

from hypothesis import given
from hypothesis import strategies as st

from gradual.nn.windows import most_central, window_starts


@given(pieces=st.integers(1, 80), room=st.integers(2, 30))
def test_each_piece_is_read_where_most_is_known_around_it(pieces, room):
    starts = window_starts(pieces, room)
    windows = [range(start, min(start + room, pieces)) for start in starts.tolist()]
    assert {piece for window in windows for piece in window} == set(range(pieces))
    assert all(len(window) == min(room, pieces) for window in windows)
    rows, places = most_central(pieces, starts, room)
    for piece, (row, place) in enumerate(zip(rows.tolist(), places.tolist(), strict=True)):

        def context(window, piece=piece):
            """Pieces to the nearer edge at which something is cut off."""
            left = piece - window[0] if window[0] > 0 else pieces
            right = window[-1] - piece if window[-1] < pieces - 1 else pieces
            return min(left, right)

        assert piece == windows[row][place]
        assert context(windows[row]) == max(context(window) for window in windows if piece in window)


def test_windows_overlap_by_half_and_are_no_more_than_needed():
    for pieces, room, expected in [(10, 10, [0]), (11, 10, [0, 1]), (20, 10, [0, 5, 10]), (23, 10, [0, 5, 10, 13])]:
        assert window_starts(pieces, room).tolist() == expected
