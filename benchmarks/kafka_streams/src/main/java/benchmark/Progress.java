package benchmark;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;

/**
 * Counts records as they are aggregated and notes wall clock and the process's CPU (all its
 * threads: client, compiler, garbage collector) at the first, at every {@code STEP} records and at
 * the last. For one thread; {@link #awaitLast} is for another one.
 */
final class Progress {

    private static final long STEP = 100_000;

    private final OperatingSystemMXBean system =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    private final CountDownLatch last = new CountDownLatch(1);
    private final List<String> marks = new ArrayList<>();
    private final long expected;
    private long seen;

    Progress(long expected) {
        this.expected = expected;
    }

    void one() {
        seen++;
        if (seen == 1 || seen % STEP == 0 || seen == expected) {
            marks.add(
                    "[%d, %.6f, %.6f]"
                            .formatted(seen, System.nanoTime() / 1e9, system.getProcessCpuTime() / 1e9));
        }
        if (seen == expected) {
            last.countDown();
        }
    }

    void awaitLast() throws InterruptedException {
        last.await();
    }

    /** A list of [records, wall seconds, CPU seconds], after {@link #awaitLast}. */
    String asJson() {
        return "[" + String.join(", ", marks) + "]";
    }
}
