import io

from qatlib.system.console import Echo, plain


def test_a_progress_bar_is_not_repeated_where_there_is_no_terminal():
    stream = io.StringIO()
    echo = Echo("[x]", stream)
    echo.write("begin\n 1/3\r 2/3")
    echo.write("\r 3/3\nend\r\n")
    assert stream.getvalue() == "[x] begin\n[x]  3/3\n[x] end\n"


def test_nothing_but_text_reaches_the_terminal():
    stream = io.StringIO()
    Echo("[x]", stream).write("\x1b[31mred\x1b[0m \x1b]0;title\x07\n")
    assert stream.getvalue() == "[x] red \\x1b]0;title\\x07\n"
    assert plain("µ °C\t\udcff\x00") == "µ °C\t\\udcff\\x00"
