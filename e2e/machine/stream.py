"""The byte stream of a machine's second serial port: a command's output with records among it."""


class RecordReader:
    """Splits a stream into output and records: lines that start with the marker.

    Output is passed on at once, but for an end that may yet turn out to be a marker's beginning.
    """

    def __init__(self, marker, on_output, on_record):
        self._marker = marker
        self._on_output = on_output
        self._on_record = on_record
        self._pending = b''

    def feed(self, data):
        self._pending += data
        while (start := self._pending.find(self._marker)) >= 0:
            end = self._pending.find(b'\n', start)
            if end < 0:
                return self._release(start)
            self._release(start)
            self._take_record(end - start)
        self._release(len(self._pending) - self._possible_marker())
        return None

    def finish(self):
        """The stream ended: what is pending was output."""
        self._release(len(self._pending))

    def _release(self, size):
        if size:
            self._on_output(self._pending[:size])
            self._pending = self._pending[size:]

    def _take_record(self, end):
        record, self._pending = self._pending[len(self._marker):end], self._pending[end + 1:]
        self._on_record(record.decode(errors='replace'))

    def _possible_marker(self):
        """How many bytes at the end of what is pending are a beginning of the marker."""
        longest = min(len(self._marker) - 1, len(self._pending))
        sizes = range(longest, 0, -1)
        return next((n for n in sizes if self._pending.endswith(self._marker[:n])), 0)
