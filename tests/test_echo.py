import io

from qatlib.echo import Echo


def test_a_progress_bar_is_not_repeated_where_there_is_no_terminal():
    stream = io.StringIO()
    echo = Echo("[x]", stream)
    echo.write("begin\n 1/3\r 2/3")
    echo.write("\r 3/3\nend\r\n")
    assert stream.getvalue() == "[x] begin\n[x]  3/3\n[x] end\n"
