"""Labels beside the points of a plot hide neither each other nor the points."""

from __future__ import annotations

import random

from retort.page.label_places import LINE, Circle, label_places

WIDTH, HEIGHT = 640.0, 260.0


def test_a_label_stands_at_the_right_of_its_point_or_at_the_left_where_the_plot_ends() -> None:
    first, last = Circle(100, 130, 10, 120), Circle(600, 130, 10, 120)
    right, left = label_places([first, last], WIDTH, HEIGHT)
    assert (right.left, right.middle) == (115, 130)
    assert (left.left + left.width, left.middle) == (585, 130)


def test_labels_of_points_that_lie_close_together_do_not_meet() -> None:
    generator = random.Random(0)
    for _ in range(50):
        near = [generator.uniform(-40, 40) for _ in range(6)]
        circles = [
            Circle(300 + x, 130 + y, 12, 130) for x, y in zip(near[::2], near[1::2], strict=True)
        ]
        places = label_places(circles, WIDTH, HEIGHT)
        for place, circle in zip(places, circles, strict=True):
            ends = place.left, place.left + place.width
            assert 0 <= ends[0] < ends[1] <= WIDTH
            assert abs(place.middle - circle.y) < HEIGHT / 2
            for other in circles:  # a label is a rectangle, and touches no circle's centre
                outside = other.x < ends[0] or other.x > ends[1]
                assert outside or abs(place.middle - other.y) > LINE / 2
        for one in range(3):
            for two in range(one):
                a, b = places[one], places[two]
                apart = a.left + a.width <= b.left or b.left + b.width <= a.left
                assert apart or abs(a.middle - b.middle) >= LINE


def test_where_nothing_is_free_a_label_still_has_a_place() -> None:
    crowd = [Circle(20, 20, 30, 200) for _ in range(4)]
    assert len(label_places(crowd, 100, 40)) == 4
