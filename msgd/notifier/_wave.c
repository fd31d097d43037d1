/* One loop over many sockets: the same bytes to each of them, without the interpreter between two of them.
 *
 * send(fds, data) -> list: for each socket how many bytes it has taken, or minus its errno. It waits for none of them,
 * and raises no SIGPIPE. The interpreter's lock is let go of meanwhile; the caller sees to it that the descriptors stay
 * open, as they do who closes sockets in the same thread.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <limits.h>
#include <sys/socket.h>

/* The descriptors of a list of integers, to be freed; NULL with an exception if one is none. */
static int *descriptors(PyObject *list, Py_ssize_t count) {
    int *fds = PyMem_New(int, count ? count : 1);
    if (!fds) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        long fd = PyLong_AsLong(PyList_GET_ITEM(list, i));
        if (fd < 0 || fd > INT_MAX) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a descriptor is not negative, and is an int");
            PyMem_Free(fds);
            return NULL;
        }
        fds[i] = (int)fd;
    }
    return fds;
}

static PyObject *list_of(const Py_ssize_t *numbers, Py_ssize_t count) {
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list && i < count; i++) {
        PyObject *number = PyLong_FromSsize_t(numbers[i]);
        if (!number) Py_CLEAR(list);
        else PyList_SET_ITEM(list, i, number);
    }
    return list;
}

static PyObject *wave_send(PyObject *module, PyObject *args) {
    PyObject *list, *answer = NULL;
    Py_buffer data;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!y*:send", &PyList_Type, &list, &data)) return NULL;
    Py_ssize_t count = PyList_GET_SIZE(list);
    int *fds = descriptors(list, count);
    Py_ssize_t *taken = fds ? PyMem_New(Py_ssize_t, count ? count : 1) : NULL;
    if (taken) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++) {
            do taken[i] = send(fds[i], data.buf, (size_t)data.len, MSG_DONTWAIT | MSG_NOSIGNAL);
            while (taken[i] < 0 && errno == EINTR);
            if (taken[i] < 0) taken[i] = -errno;
        }
        Py_END_ALLOW_THREADS
        answer = list_of(taken, count);
    } else if (fds) {
        PyErr_NoMemory();
    }
    PyMem_Free(taken);
    PyMem_Free(fds);
    PyBuffer_Release(&data);
    return answer;
}

static PyMethodDef methods[] = {
    {"send", wave_send, METH_VARARGS, "send(fds, data): bytes taken by each socket, or minus its errno"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "msgd.notifier._wave",
    .m_doc = "One loop over many sockets",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__wave(void) { return PyModule_Create(&definition); }
