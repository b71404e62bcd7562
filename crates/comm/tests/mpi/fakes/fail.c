// Stands before MPI and lets sends of messages (SIROCCO_FAIL=send: when they begin; SIROCCO_FAIL=test: when they are asked after) fail,
// once each. As MPI does, it lets go of the request, which counts as complete from then on.

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum { LETTER = 7, NOBODYS = 1000 };

static MPI_Request lost = MPI_REQUEST_NULL;

static int fails(const char *how) {
    const char *wanted = getenv("SIROCCO_FAIL");
    return wanted && !strcmp(wanted, how);
}

int MPI_Isend(const void *buffer, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request *request) {
    if (tag == LETTER && fails("send")) {
        return MPI_ERR_OTHER;
    }
    if (tag == LETTER && fails("test")) {
        // A request that is none of a message: what is sent here never arrives.
        static char nothing;
        int code = PMPI_Irecv(&nothing, 1, MPI_BYTE, to, NOBODYS, comm, request);
        lost = *request;
        return code;
    }
    return PMPI_Isend(buffer, count, type, to, tag, comm, request);
}

int MPI_Test(MPI_Request *request, int *done, MPI_Status *status) {
    if (lost != MPI_REQUEST_NULL && *request == lost) {
        lost = *request = MPI_REQUEST_NULL;
        return MPI_ERR_OTHER;
    }
    return PMPI_Test(request, done, status);
}
