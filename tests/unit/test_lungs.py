import numpy as np

from model.lungs import whole_lungs


def test_a_lung_reaches_behind_the_heart_as_far_as_above_it():
    lungs = np.zeros((2, 12, 20), np.float32)
    lungs[0, 2:10, 2:8] = 1
    lungs[1, 2:10, 12:18] = 1
    lungs[1, 6:10, 12:15] = 0
    heart = np.zeros((12, 20), np.float32)
    heart[6:11, 6:15] = 1

    right, left = whole_lungs(lungs, heart)

    assert (left[6:10, 12:18] == 1).all()
    assert not left[:, :12].any()
    assert not left[10:].any()
    assert (right == lungs[0]).all()


def test_without_a_lung_nothing_is_added():
    assert not whole_lungs(np.zeros((2, 4, 4), np.float32), np.ones((4, 4), np.float32)).any()
